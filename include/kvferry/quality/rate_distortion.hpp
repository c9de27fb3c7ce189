// An evaluation as people read it: tables and a plot of rate against distortion.
#pragma once

#include <string>

#include "kvferry/quality/evaluation.hpp"

namespace kvferry {

// One table for each set of contexts, a line for each codec.
std::string rate_distortion_tables(const Evaluation& evaluation);

// An SVG document: for each set a panel of mean KL (logarithmic) over bits a value; profiles are
// joined by a line, baselines stand alone. Codecs without a positive, finite KL are left out.
std::string rate_distortion_plot(const Evaluation& evaluation);

}  // namespace kvferry
