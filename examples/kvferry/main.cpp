// kvferry: runs, inspects and converts on one machine what the nodes do on several.
#include "kvferry/core/version.hpp"

#include "cli/program.hpp"
#include "command.hpp"

int main(int argc, char** argv) {
  using namespace kvferry;
  CLI::App app(
      "kvferry hands the KV cache of a language model from the machine that prefills to the one "
      "that decodes.\nThis program does on one machine what kvferry-prefill, kvferry-decode and "
      "kvferry-client do on several, and looks into files.");
  app.set_version_flag("--version", "kvferry " KVFERRY_VERSION);
  app.footer(
      "Examples:\n"
      "  kvferry run --model m.gguf --prompt \"Why is the sky blue?\"\n"
      "  kvferry run --model m.gguf --prompt-file - --handoff lossless --json < prompt.txt\n"
      "  kvferry save --model m.gguf --prompt-file long.txt cache.kvf\n"
      "  kvferry load --model m.gguf cache.kvf\n"
      "  kvferry inspect m.gguf\n"
      "kvferry COMMAND --help tells the options of a command.");
  app.require_subcommand(1);
  cli::Command chosen;
  cli::add_run(app, chosen);
  cli::add_inspect(app, chosen);
  cli::add_tokenize(app, chosen);
  cli::add_kv(app, chosen);
  cli::add_save(app, chosen);
  cli::add_load(app, chosen);
  cli::add_eval(app, chosen);
  cli::add_calibrate(app, chosen);
  return cli::run_program(app, argc, argv, [&chosen] { return chosen(); });
}
