// How a program reads its command line and ends.
#pragma once

#include <cctype>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "kvferry/core/quoted.hpp"
#include "kvferry/core/result.hpp"

#include "cli/interrupt.hpp"

namespace kvferry::cli {

// The number that all of `text` is; what a conversion would quietly take otherwise (nothing at all,
// a sign that wraps, more than fits) is refused.
inline std::string check_number(const std::string& text, bool whole) {
  errno = 0;
  char* end = nullptr;
  if (whole) {
    static_cast<void>(std::strtoull(text.c_str(), &end, 10));
  } else if (!std::isfinite(std::strtod(text.c_str(), &end))) {
    errno = ERANGE;
  }
  const bool starts = !text.empty() && text[0] != '+' && !std::isspace(text[0] & 0xff) &&
                      !(whole && text[0] == '-');
  if (starts && *end == '\0' && errno == 0) return std::string();
  return kvferry::quoted(text) + (whole ? " is not a whole number in range" : " is not a number");
}

// Has every numeric option of `app` and its subcommands checked so.
inline void check_numbers(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    if (type.rfind("UINT", 0) == 0)
      option->check([](const std::string& text) { return check_number(text, true); }, "");
    if (type.rfind("FLOAT", 0) == 0)
      option->check([](const std::string& text) { return check_number(text, false); }, "");
  }
  for (CLI::App* child : app.get_subcommands(nullptr)) check_numbers(*child);
}

// Parses the command line and does `work`. Errors of either are one line on standard error that
// begins with "error:"; the exit status is 2 for a bad command line, 1 for what went wrong later.
inline int run_program(CLI::App& app, int argc, char** argv, const std::function<Status()>& work) {
  check_numbers(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& bad) {
    // A word that is not known is the likelier cause of what is missing then.
    const std::vector<std::string> unknown = app.remaining(true);
    const std::string what =
        unknown.empty() ? bad.what() : "unknown argument " + kvferry::quoted(unknown[0]);
    std::cerr << "error: " << what << " (see --help)\n";
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
