// Which blocks a source cuts what it publishes into.
#include "kvferry/handoff/block_planner.hpp"

#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "machines.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::uint32_t kTokens = 100;

// Of a source that declares all of two layers.
BlockPlanner planner() {
  wire::CoveragePart part;
  part.end_layer = 2;
  part.end = kTokens;
  return BlockPlanner({part});
}

// The blocks of one plane that can be taken, in order; those of the other are dropped.
std::vector<std::string> take_all(BlockPlanner& planner, std::uint32_t layer, Plane plane) {
  std::vector<std::string> blocks;
  while (planner.has_block()) {
    const KvRange block = planner.take();
    if (block.layer != layer || block.plane != plane) continue;
    blocks.push_back(std::to_string(block.begin) + "-" + std::to_string(block.end));
  }
  return blocks;
}

using Blocks = std::vector<std::string>;

}  // namespace

TEST_CASE("what follows a block that waits joins it, up to the largest block") {
  for (const bool before : {false, true}) {
    INFO("published before the answer: " << before);
    BlockPlanner plan = planner();
    if (!before) plan.start(0, {}, 32);
    for (std::uint32_t at = 0; at < kTokens; at += 7) {
      for (const std::uint32_t layer : {0u, 1u})
        REQUIRE(plan.publish(layer, at, std::min(at + 7, kTokens)).ok());
    }
    if (before) plan.start(0, {}, 32);
    CHECK(take_all(plan, 1, Plane::kValue) == Blocks{"0-32", "32-64", "64-96", "96-100"});
  }
}

TEST_CASE("a block that was taken does not grow, one that waits behind it does") {
  BlockPlanner plan = planner();
  plan.start(0, {}, 32);
  REQUIRE(plan.publish(0, 0, 5).ok());
  CHECK(to_string(plan.take()) == to_string(KvRange{0, Plane::kKey, 0, 5}));
  REQUIRE(plan.publish(0, 5, 6).ok());
  REQUIRE(plan.publish(0, 6, 9).ok());
  CHECK(to_string(plan.take()) == to_string(KvRange{0, Plane::kValue, 0, 9}));
  CHECK(to_string(plan.take()) == to_string(KvRange{0, Plane::kKey, 5, 9}));
  CHECK_FALSE(plan.has_block());
}

TEST_CASE("rows that do not touch make blocks of their own") {
  BlockPlanner plan = planner();
  plan.start(4, {{0, Plane::kKey, 10, 20}}, 32);
  for (std::uint32_t at = 0; at < 30; at += 5) REQUIRE(plan.publish(0, at, at + 5).ok());
  REQUIRE(plan.publish(0, 40, 50).ok());
  REQUIRE(plan.publish(0, 30, 40).ok());
  CHECK(plan.publish(0, 29, 30).error().code == ErrorCode::kInvalidArgument);
  SECTION("K has a hole") {
    CHECK(take_all(plan, 0, Plane::kKey) == Blocks{"4-10", "20-30", "40-50", "30-40"});
  }
  SECTION("V has none") {
    CHECK(take_all(plan, 0, Plane::kValue) == Blocks{"4-30", "40-50", "30-40"});
  }
}

TEST_CASE("a cache published token by token travels in as few blocks as one published at once") {
  const KvGeometry geometry = handoff_geometry();
  const KnownSource source(geometry);
  for (const std::uint64_t credit : {std::uint64_t{3000}, std::uint64_t{1} << 20}) {
    INFO("credit " << credit);
    ReceiverOptions options;
    options.credit = credit;
    const auto at_once = empty_sequence(geometry);
    MachinePair whole(make_offer(geometry, 300), source, at_once, options);
    whole.hand_over();

    const auto sequence = empty_sequence(geometry);
    MachinePair pair(make_offer(geometry, 300), source, sequence, options);
    while (pair.sender.machine.state() != HandoffSender::State::kStreaming) REQUIRE(pair.step());
    for (std::uint32_t token = 0; token < 300; ++token) {
      for (std::uint32_t layer = 0; layer < geometry.layers; ++layer)
        REQUIRE(pair.sender.machine.publish(layer, token, token + 1).ok());
    }
    pair.run();
    REQUIRE(pair.receiver.machine.state() == HandoffReceiver::State::kCommitted);
    CHECK(holds_known_rows(*sequence, 0, 300));
    CHECK(pair.sender.machine.blocks_sent() == whole.sender.machine.blocks_sent());
  }
}
