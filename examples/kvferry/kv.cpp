// kvferry kv: what a codec profile does to the rows of a cache, as raw files for other tools.
#include <cerrno>
#include <cstring>
#include <iostream>
#include <memory>
#include <utility>

#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "kvferry/core/half.hpp"

#include "cli/files.hpp"
#include "cli/interrupt.hpp"
#include "cli/model_options.hpp"
#include "command.hpp"
#include "generation.hpp"

namespace kvferry::cli {
namespace {

struct Options {
  ModelOptions model;
  std::string ids_file;
  std::string profile;
  std::string out_dir;
  bool token_classes = true;
  std::uint32_t chunk = kDefaultChunkTokens;
  bool json = false;
};

// Rows of any element type as F32.
std::vector<float> to_floats(ElementType type, Bytes rows) {
  std::vector<float> out(rows.size() / size_of(type));
  ByteReader in(rows);
  for (float& value : out) {
    switch (type) {
      case ElementType::kF16:
        value = to_float(Half{in.u16()});
        break;
      case ElementType::kBF16:
        value = to_float(BFloat16{in.u16()});
        break;
      case ElementType::kF32:
        value = in.f32();
        break;
    }
  }
  return out;
}

// One plane of all layers, F32 [layers, tokens, kv_heads, head_dim].
Status write_plane(const KvSequence& sequence, Plane plane, AtomicFile& file) {
  const KvGeometry& geometry = sequence.geometry();
  const std::uint32_t tokens = sequence.length();
  std::vector<std::uint8_t> rows(tokens * geometry.row_bytes());
  for (std::uint32_t l = 0; l < geometry.layers; ++l) {
    const KvRange range{geometry.first_layer + l, plane, 0, tokens};
    KVFERRY_TRY(sequence.read(range, sequence.generation(), MutableBytes(rows)));
    const std::vector<float> values = to_floats(geometry.type, rows);
    KVFERRY_TRY(file.write(as_bytes(Span<const float>(values))));
  }
  return {};
}

Status run(const Options& options) {
  GenerationRequest request;
  request.chunk = options.chunk;
  request.token_classes = options.token_classes;
  KVFERRY_ASSIGN(request.handoff, profile_from_name(options.profile));
  KVFERRY_ASSIGN(const LoadedModel model, LoadedModel::load(options.model));
  KVFERRY_ASSIGN(const std::vector<TokenId> ids, read_ids(options.ids_file, model.config().vocab));
  wire::Generate prompt;
  prompt.token_ids = ids;
  KVFERRY_ASSIGN(request.prompt, model.prompt_tokens(prompt));
  std::vector<float> logits;
  KVFERRY_ASSIGN(const Generation handed, prefill(model, request, logits, interrupted()));

  if (::mkdir(options.out_dir.c_str(), 0777) != 0 && errno != EEXIST) {
    return Error(ErrorCode::kIo,
                 "cannot make the folder " + options.out_dir + ": " + std::strerror(errno));
  }

  // All four files are whole before the first of them appears.
  struct Part {
    const char* name;
    const KvSequence& sequence;
    Plane plane;
  };
  std::vector<AtomicFile> files;
  for (const Part& part : {Part{"ref_k.f32", *handed.prefilled, Plane::kKey},
                           Part{"ref_v.f32", *handed.prefilled, Plane::kValue},
                           Part{"k.f32", *handed.sequence, Plane::kKey},
                           Part{"v.f32", *handed.sequence, Plane::kValue}}) {
    const std::string path = options.out_dir + "/" + part.name;
    KVFERRY_TRY(check_output(path, {options.model.file, options.ids_file, options.model.codebook,
                                    Predictor::path_beside(options.model.codebook)}));
    KVFERRY_ASSIGN(AtomicFile file, AtomicFile::create(path, FileAccess::kCommon));
    KVFERRY_TRY(write_plane(part.sequence, part.plane, file));
    files.push_back(std::move(file));
  }
  KVFERRY_TRY(commit_all(files));

  const HandoffReport& report = handed.handoff->sender;
  const KvGeometry& geometry = handed.sequence->geometry();
  const std::size_t values =
      std::size_t{2} * geometry.layers * request.prompt.size() * geometry.row_values();
  const std::uint64_t headers = report.sent_bytes - report.side_bytes - report.symbol_bytes;
  const bool without_codebook = is_quantised(*request.handoff) && !report.used_codebook;
  if (options.json) {
    nlohmann::json out = {
        {"bytes", report.sent_bytes},
        {"values", values},
        {"by_kind",
         {{"headers", headers}, {"side", report.side_bytes}, {"symbols", report.symbol_bytes}}}};
    if (without_codebook) out["note"] = kNoCodebook;
    std::cout << out.dump() << '\n';
  } else {
    std::cout << report.sent_bytes << " bytes for " << values << " values, "
              << 8.0 * static_cast<double>(report.sent_bytes) / static_cast<double>(values)
              << " bits a value: headers " << headers << ", side information " << report.side_bytes
              << ", symbols " << report.symbol_bytes << '\n';
    if (without_codebook) std::cerr << kNoCodebook << '\n';
  }
  return {};
}

}  // namespace

void add_kv(CLI::App& app, Command& chosen) {
  const auto options = std::make_shared<Options>();
  options->model.path = "reference";
  CLI::App* command = app.add_subcommand(
      "kv",
      "Write a prompt's K and V before and after a hand-off, and count the bytes that travel: "
      "ref_k.f32 ref_v.f32 k.f32 v.f32, F32 [layers, tokens, kv_heads, head_dim], K after RoPE");
  add_model_options(*command, options->model);
  command->add_option("--ids-file", options->ids_file, "A JSON array of token ids")->required();
  command->add_option("--profile", options->profile, kProfileNames)->required();
  add_codec_options(*command, options->model);
  add_switch(*command, "--classes", options->token_classes,
             "Quantise tokens more finely that get much attention");
  command->add_option("--out-dir", options->out_dir, "Folder for the four files")->required();
  command->add_option("--chunk", options->chunk, "Prompt tokens computed together")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  command->add_flag("--json", options->json, "One JSON object: bytes, values, by_kind");
  command->callback([options, &chosen] { chosen = [options] { return run(*options); }; });
}

}  // namespace kvferry::cli
