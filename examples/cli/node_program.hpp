// What the two node programs share: server options, and waiting until they are told to stop.
#pragma once

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>

#include "kvferry/node/node_options.hpp"

#include "interrupt.hpp"
#include "model_options.hpp"

namespace kvferry::cli {

inline void add_server_options(CLI::App& app, ServerOptions& options) {
  app.add_option("--listen", options.listen,
                 "Address to listen on, tcp://host:port; port 0 takes any free one")
      ->capture_default_str();
  app.add_flag("--allow-public", options.allow_public,
               "Listen on an address that is not loopback: anyone who reaches the port can use it");
  app.add_option("--max-connections", options.max_connections, "Connections at a time")
      ->capture_default_str()
      ->check(CLI::Range(1, 65536));
  add_seconds(app, "--timeout", options.timeout,
              "Seconds to wait for a peer that should be answering (default 30)");
}

// $XDG_CACHE_HOME/kvferry/model-data, or below ~/.cache; empty without a home.
inline std::string model_data_folder() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  const std::string cache = variable("XDG_CACHE_HOME");
  if (!cache.empty() && cache[0] == '/') return cache + "/kvferry/model-data";
  const std::string home = variable("HOME");
  return home.empty() ? home : home + "/.cache/kvferry/model-data";
}

// Log lines to standard error, whole lines from any thread.
inline NodeLog log_to_stderr() {
  static std::mutex mutex;
  return [](const std::string& line) {
    const std::lock_guard<std::mutex> lock(mutex);
    std::cerr << line << '\n';
  };
}

// Says where a node listens, on standard output, and waits for Ctrl-C or SIGTERM.
inline void serve_until_interrupted(const std::string& address) {
  const std::atomic<bool>& stop = interrupted();
  std::cout << "listening on " << address << std::endl;
  while (!stop) std::this_thread::sleep_for(std::chrono::milliseconds(50));
}

}  // namespace kvferry::cli
