// Ctrl-C and SIGTERM as a flag that long work looks at.
#pragma once

#include <atomic>

namespace kvferry::cli {

// From the first call on, the first SIGINT or SIGTERM sets the flag instead of ending the process;
// a second one ends it.
const std::atomic<bool>& interrupted();

}  // namespace kvferry::cli
