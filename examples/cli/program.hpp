// How a program reads its command line and ends.
#pragma once

#include <exception>
#include <functional>
#include <iostream>

#include <CLI/CLI.hpp>

#include "kvferry/core/result.hpp"

#include "cli/interrupt.hpp"

namespace kvferry::cli {

// Parses the command line and does `work`. Errors of either are one line on standard error that
// begins with "error:"; the exit status is 2 for a bad command line, 1 for what went wrong later.
inline int run_program(CLI::App& app, int argc, char** argv, const std::function<Status()>& work) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& bad) {
    std::cerr << "error: " << bad.what() << " (see --help)\n";
    return 2;
  }
  interrupted();  // from here on Ctrl-C asks the work to stop
  Status status;
  try {
    status = work();
  } catch (const std::exception& failure) {  // out of memory, no thread to be had
    status = Error(ErrorCode::kResourceExhausted, failure.what());
  }
  if (status.ok() && !std::cout.flush()) {
    status = Error(ErrorCode::kIo, "cannot write to standard output");
  }
  if (status.ok()) return 0;
  std::cerr << "error: " << status.error().message << '\n';
  return 1;
}

}  // namespace kvferry::cli
