// A decode node, started and stopped, with kvferry::node: program MODEL
#include <cstdio>

#include "kvferry/node/decode_node.hpp"

int main(int argc, char** argv) {
  kvferry::DecodeNodeOptions options;
  options.model.file = argc > 1 ? argv[1] : "";
  const auto node = kvferry::DecodeNode::start(options, nullptr);
  if (!node.ok()) {
    std::fprintf(stderr, "error: %s\n", node.error().message.c_str());
    return 1;
  }
  std::printf("listening on %s\n", (*node)->address().c_str());
  return 0;
}
