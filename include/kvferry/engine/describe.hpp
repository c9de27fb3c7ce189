// Human- and machine-readable summaries of a model file, for `kvferry inspect`.
#pragma once

#include <string>

#include "kvferry/engine/gguf.hpp"
#include "kvferry/engine/model_file.hpp"

namespace kvferry {

// Metadata (arrays as their first values and their length) and tensors, one a line. Text from the
// file is escaped: it cannot control a terminal.
std::string describe(const GgufFile& file);
// The same with the model's configuration and identity in front.
std::string describe(const ModelFile& model);

// One JSON object, without a newline behind it: {"gguf": {"version", "alignment", "bytes",
// "data_offset", "metadata": {key: value}, "tensors": [{"name", "type", "dimensions", "offset",
// "bytes"}]}}. Arrays of more than 16 values become {"type", "count", "first": [...]}.
std::string describe_json(const GgufFile& file);
// The same with "config" and "identity".
std::string describe_json(const ModelFile& model);

}  // namespace kvferry
