// How the subcommands of the kvferry program are declared.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/core/result.hpp"

namespace kvferry::cli {

// The work of the subcommand that was chosen; set while the command line is parsed.
using Command = std::function<Status()>;

// Each adds its subcommand to `app` and, when that is chosen, puts its work into `chosen`.
void add_run(CLI::App& app, Command& chosen);
void add_inspect(CLI::App& app, Command& chosen);
void add_tokenize(CLI::App& app, Command& chosen);
void add_kv(CLI::App& app, Command& chosen);
void add_save(CLI::App& app, Command& chosen);
void add_load(CLI::App& app, Command& chosen);
void add_eval(CLI::App& app, Command& chosen);
void add_calibrate(CLI::App& app, Command& chosen);

}  // namespace kvferry::cli
