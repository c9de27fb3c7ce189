#include "kvferry/quality/rate_distortion.hpp"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <vector>

namespace kvferry {
namespace {

__attribute__((format(printf, 1, 2))) std::string formatted(const char* format, ...) {
  char buffer[512];
  std::va_list arguments;
  va_start(arguments, format);
  const int length = std::vsnprintf(buffer, sizeof buffer, format, arguments);
  va_end(arguments);
  return std::string(buffer, static_cast<std::size_t>(std::max(
                                 0, std::min(length, static_cast<int>(sizeof buffer) - 1))));
}

struct Point {
  double bits;
  double kl;
  std::string name;
  bool is_baseline;
};

// What the panels share, in SVG units.
constexpr double kLeft = 80, kWidth = 620, kTop = 40, kHeight = 300, kPanelHeight = 400;

// The range of both axes over all panels.
struct Axes {
  double most_bits = 1.0;
  int lowest_decade = 0;
  int highest_decade = -100;

  explicit Axes(const std::vector<std::vector<Point>>& panels) {
    for (const std::vector<Point>& points : panels) {
      for (const Point& p : points) {
        most_bits = std::max(most_bits, std::ceil(p.bits));
        lowest_decade = std::min(lowest_decade, static_cast<int>(std::floor(std::log10(p.kl))));
        highest_decade = std::max(highest_decade, static_cast<int>(std::ceil(std::log10(p.kl))));
      }
    }
    highest_decade = std::max(highest_decade, lowest_decade + 1);
  }
  double x(double bits) const { return kLeft + bits / most_bits * kWidth; }
  double y(double kl) const {
    const double share = (std::log10(kl) - lowest_decade) / (highest_decade - lowest_decade);
    return kTop + kHeight * (1.0 - share);
  }
};

std::vector<Point> points_of(const Evaluation& evaluation, std::size_t set) {
  std::vector<Point> points;
  for (const CodecFigures& codec : evaluation.codecs) {
    const double kl = codec.sets[set].divergence.mean;
    if (kl > 0.0 && std::isfinite(kl))
      points.push_back({codec.sets[set].bits_per_value(), kl, codec.name, codec.is_baseline});
  }
  std::sort(points.begin(), points.end(),
            [](const Point& a, const Point& b) { return a.bits < b.bits; });
  return points;
}

std::string grid(const Axes& axes) {
  std::string svg;
  for (int bits = 0; bits <= static_cast<int>(axes.most_bits); ++bits) {
    const double x = axes.x(bits);
    svg += formatted("<path class=\"grid\" d=\"M%.1f %.1fv%.1f\"/>\n", x, kTop, kHeight);
    svg += formatted("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%d</text>\n", x,
                     kTop + kHeight + 18, bits);
  }
  for (int decade = axes.lowest_decade; decade <= axes.highest_decade; ++decade) {
    const double y = axes.y(std::pow(10.0, decade));
    svg += formatted("<path class=\"grid\" d=\"M%.1f %.1fh%.1f\"/>\n", kLeft, y, kWidth);
    svg += formatted("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">1e%d</text>\n", kLeft - 8,
                     y + 4, decade);
  }
  svg += formatted("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">bits a value</text>\n",
                   kLeft + kWidth / 2, kTop + kHeight + 38);
  svg += formatted(
      "<text transform=\"translate(22 %.1f) rotate(-90)\" text-anchor=\"middle\">mean KL, nats"
      "</text>\n",
      kTop + kHeight / 2);
  return svg;
}

std::string curve(const Axes& axes, const std::vector<Point>& points) {
  std::string path;
  for (const Point& p : points) {
    if (p.is_baseline) continue;
    path += formatted("%s%.1f %.1f", path.empty() ? "M" : "L", axes.x(p.bits), axes.y(p.kl));
  }
  std::string svg = path.empty() ? path : "<path class=\"curve\" d=\"" + path + "\"/>\n";
  for (const Point& p : points) {
    const char* kind = p.is_baseline ? "baseline" : "profile";
    svg += formatted("<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>\n", kind,
                     axes.x(p.bits), axes.y(p.kl));
    svg += formatted("<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", kind,
                     axes.x(p.bits) + 7, axes.y(p.kl) - 5, p.name.c_str());
  }
  return svg;
}

}  // namespace

std::string rate_distortion_tables(const Evaluation& evaluation) {
  std::string out;
  for (std::size_t s = 0; s < evaluation.sets.size(); ++s) {
    const std::size_t rows =
        evaluation.codecs.empty() ? 0 : evaluation.codecs[0].sets[s].divergence.rows;
    out += formatted("%s%s: %zu tokens scored\n", s == 0 ? "" : "\n", evaluation.sets[s].c_str(),
                     rows);
    out += formatted("%-16s %10s %10s %10s %10s %10s %8s %10s\n", "codec", "bits/value", "mean KL",
                     "median", "p99", "p99.9", "top-1", "d ln PPL");
    for (const CodecFigures& codec : evaluation.codecs) {
      const SetFigures& f = codec.sets[s];
      const Divergence& d = f.divergence;
      out += formatted("%-16s %10.3f %10.2e %10.2e %10.2e %10.2e %7.2f%% %+10.2e\n",
                       codec.name.c_str(), f.bits_per_value(), d.mean, d.median, d.p99, d.p999,
                       100.0 * d.top1, d.loss);
    }
  }
  return out;
}

std::string rate_distortion_plot(const Evaluation& evaluation) {
  std::vector<std::vector<Point>> panels;
  for (std::size_t s = 0; s < evaluation.sets.size(); ++s)
    panels.push_back(points_of(evaluation, s));
  const Axes axes(panels);
  const double height = kPanelHeight * static_cast<double>(panels.size());
  std::string svg = formatted(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 %.0f\" "
      "font-family=\"sans-serif\""
      " font-size=\"12\">\n",
      height);
  svg +=
      "<style>.grid{stroke:#ddd;fill:none}.curve{stroke:#1565c0;stroke-width:2;fill:none}"
      "circle.profile{fill:#1565c0}circle.baseline{fill:#c62828}text.profile{fill:#1565c0}"
      "text.baseline{fill:#c62828}</style>\n";
  svg += formatted("<rect width=\"760\" height=\"%.0f\" fill=\"#fff\"/>\n", height);
  for (std::size_t s = 0; s < panels.size(); ++s) {
    svg +=
        formatted("<g transform=\"translate(0 %.0f)\">\n", kPanelHeight * static_cast<double>(s));
    svg += formatted("<text x=\"%.1f\" y=\"24\" font-weight=\"bold\">%s</text>\n", kLeft,
                     evaluation.sets[s].c_str());
    svg += grid(axes) + curve(axes, panels[s]) + "</g>\n";
  }
  return svg + "</svg>\n";
}

}  // namespace kvferry
