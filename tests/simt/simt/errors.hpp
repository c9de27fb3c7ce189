// What the runtime and the launches report.
#pragma once

#include <string>

#include "simt/runtime_api.hpp"

namespace simt {

// Adds a line to what take_errors() gives.
void record_error(const std::string& text);
// Remembers `error` for cudaGetLastError and returns it.
cudaError_t answer(cudaError_t error);
// The same, with a line for take_errors().
cudaError_t refuse(cudaError_t error, const std::string& text);

}  // namespace simt
