// Codebook and predictor of a prefill node reach a decode node that has neither: once.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <thread>

#include <unistd.h>

#include "kvferry/codec/codebook.hpp"
#include "kvferry/codec/predictor.hpp"
#include "kvferry/handoff/connection.hpp"
#include "kvferry/transport/tcp.hpp"

#include "node_fixture.hpp"
#include "tests/codec/test_predictor.hpp"
#include "tests/support/temporary_folder.hpp"

namespace kvferry_test {
namespace {

double figure(const std::vector<std::pair<std::string, double>>& report, const std::string& name) {
  for (const auto& entry : report) {
    if (entry.first == name) return entry.second;
  }
  return -1;
}

// Two nodes, of which the prefill node has codebook and predictor. The decode node can be started
// again at the same address.
class Nodes {
 public:
  explicit Nodes(const TemporaryFolder& folder, bool predictor_ahead = false)
      : kept_(folder.path() + "/kept/model-data") {
    const LoadedModel model = LoadedModel::load(tiny_options()).value();
    const KvGeometry& g = model.pool->geometry();
    codebook_ = Codebook::create(Codebook::model_of(model.identity), g.kv_heads, g.head_dim,
                                 test_codebook(g, 1)->layers())
                    .value();
    predictor_ = test_predictor(g, *codebook_, 2, 1);
    const std::string file = folder.path() + "/tiny.kvfc";
    REQUIRE(codebook_->save(file).ok());
    REQUIRE(predictor_->save(Predictor::path_beside(file)).ok());

    start_decode_node();
    PrefillNodeOptions options;
    options.model = tiny_options();
    options.model.codebook = file;
    options.model.predict = true;
    options.profile = Profile::kHigh;
    options.predictor_ahead = predictor_ahead;
    prefill_ = start_prefill(address_, options);
  }

  // Stops the decode node, and starts it again with what it has kept.
  void restart() {
    decode_.reset();
    start_decode_node();
  }
  GenerationResult run() { return ask(*prefill_, request_of(some_ids(60), 4)).value(); }
  // The file with that beginning in the decode node's folder, as soon as it is there.
  std::string kept_file(const std::string& prefix, std::size_t bytes) const {
    for (int i = 0; i < 2000; ++i) {
      for (const std::string& name : TemporaryFolder::files(kept_)) {
        if (name.compare(0, prefix.size(), prefix) != 0 || name.find('.') != std::string::npos)
          continue;
        std::ifstream in(kept_ + "/" + name, std::ios::binary | std::ios::ate);
        if (static_cast<std::size_t>(in.tellg()) == bytes) return kept_ + "/" + name;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    FAIL("no file " << prefix);
    return {};
  }
  const Codebook& codebook() const { return *codebook_; }
  const Predictor& predictor() const { return *predictor_; }
  std::string log() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return log_;
  }

 private:
  void start_decode_node() {
    DecodeNodeOptions options;
    options.model = tiny_options();
    options.model_data_folder = kept_;
    if (!address_.empty()) options.server.listen = address_;
    decode_ = DecodeNode::start(options, [this](const std::string& line) {
                const std::lock_guard<std::mutex> lock(mutex_);
                log_ += line + "\n";
              }).value();
    address_ = decode_->address();
  }

  const std::string kept_;
  std::shared_ptr<const Codebook> codebook_;
  std::shared_ptr<const Predictor> predictor_;
  std::string address_;
  mutable std::mutex mutex_;  // of log_
  std::string log_;
  std::unique_ptr<DecodeNode> decode_;
  std::unique_ptr<PrefillNode> prefill_;
};

TEST_CASE("codebook and predictor are sent once, and a restart does not ask again") {
  const TemporaryFolder folder;
  Nodes nodes(folder);
  const auto codebook_bytes = static_cast<double>(nodes.codebook().bytes().size());

  const GenerationResult first = nodes.run();
  CHECK(figure(first.prefill_report, "model_data_bytes") == codebook_bytes);
  CHECK(figure(first.decode_report, "model_data_bytes") == codebook_bytes);
  CHECK(figure(first.prefill_report, "codebook") == 1);
  CHECK(figure(first.prefill_report, "predictor") == 0);
  nodes.kept_file("codebook-", nodes.codebook().bytes().size());
  nodes.kept_file("predictor-", nodes.predictor().bytes().size());

  const auto nothing_travels = [&](const GenerationResult& result) {
    CHECK(figure(result.prefill_report, "model_data_bytes") == 0);
    CHECK(figure(result.decode_report, "model_data_bytes") == 0);
    CHECK(figure(result.prefill_report, "codebook") == 1);
    CHECK(figure(result.prefill_report, "predictor") == 1);
  };
  const GenerationResult second = nodes.run();
  nothing_travels(second);
  CHECK(second.tokens.size() == 4);
  nodes.restart();
  nothing_travels(nodes.run());
}

TEST_CASE("a damaged file is ignored with a log line, and fetched again") {
  const TemporaryFolder folder;
  Nodes nodes(folder, true);
  const std::size_t bytes = nodes.codebook().bytes().size();
  const GenerationResult first = nodes.run();
  CHECK(figure(first.prefill_report, "predictor") == 1);
  CHECK(figure(first.prefill_report, "model_data_bytes") ==
        static_cast<double>(bytes + nodes.predictor().bytes().size()));
  const std::string file = nodes.kept_file("codebook-", bytes);
  nodes.kept_file("predictor-", nodes.predictor().bytes().size());
  for (const bool is_cut : {false, true}) {
    {
      std::fstream damage(file, std::ios::binary | std::ios::in | std::ios::out);
      damage.seekp(50);
      damage.put('\x55');
    }
    if (is_cut) REQUIRE(truncate(file.c_str(), 20) == 0);
    nodes.restart();
    const GenerationResult again = nodes.run();
    CHECK(figure(again.prefill_report, "model_data_bytes") >= static_cast<double>(bytes));
    CHECK(figure(again.prefill_report, "codebook") == 1);
    CHECK(nodes.log().find("it is fetched again") != std::string::npos);
    CHECK(nodes.kept_file("codebook-", bytes) == file);
    nodes.restart();
    CHECK(figure(nodes.run().prefill_report, "model_data_bytes") == 0);
  }
}

TEST_CASE("model data that a decode node did not ask for ends the connection") {
  const auto decode = start_decode();
  const auto channel = connect_tcp(decode->address(), Deadline::after(std::chrono::seconds(10)));
  REQUIRE(channel.ok());
  Connection connection(**channel);
  const Deadline late = Deadline::after(std::chrono::seconds(20));
  REQUIRE(connection.greet(wire::Role::kPrefill, late).ok());
  const std::vector<std::uint8_t> bytes(100);
  wire::ModelData data;
  data.id = 1;
  data.total = 1000;
  data.bytes = bytes;
  REQUIRE(connection.send(wire::MessageType::kModelData, data, late).ok());
  const auto answer = connection.receive(late);
  REQUIRE_FALSE(answer.ok());
  CHECK(answer.error().code == ErrorCode::kProtocol);
  CHECK(answer.error().message.find("not asked for") != std::string::npos);
}

TEST_CASE("without a codebook the report says so, and other profiles say nothing") {
  const auto decode = start_decode();
  PrefillNodeOptions options;
  options.model = tiny_options();
  options.profile = Profile::kLow;
  const auto prefill = start_prefill(decode->address(), options);
  const GenerationResult lossy = ask(*prefill, request_of(some_ids(40), 3)).value();
  CHECK(figure(lossy.prefill_report, "codebook") == 0);
  CHECK(figure(lossy.prefill_report, "model_data_bytes") == 0);
  options.profile = Profile::kLossless;
  const auto exact = start_prefill(decode->address(), options);
  CHECK(figure(ask(*exact, request_of(some_ids(40), 3)).value().prefill_report, "codebook") == -1);
}

}  // namespace
}  // namespace kvferry_test
