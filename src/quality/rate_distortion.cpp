#include "kvferry/quality/rate_distortion.hpp"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <locale>
#include <map>
#include <sstream>
#include <vector>

namespace kvferry {
namespace {

// A stream that writes numbers the same way wherever the program runs.
class Text {
 public:
  Text() { out_.imbue(std::locale::classic()); }

  template <typename T>
  Text& operator<<(const T& value) {
    out_ << value;
    return *this;
  }
  // With that many decimals.
  Text& fixed(double value, int decimals, int width = 0) {
    out_ << std::fixed << std::setprecision(decimals) << std::setw(width) << value;
    return *this;
  }
  Text& scientific(double value, int width) {
    out_ << std::scientific << std::setprecision(2) << std::setw(width) << value;
    return *this;
  }
  Text& right(const char* value, int width) {
    out_ << std::right << std::setw(width) << value;
    return *this;
  }
  Text& left(const std::string& value, int width) {
    out_ << std::left << std::setw(width) << value << std::right;
    return *this;
  }
  std::string str() const { return out_.str(); }

 private:
  std::ostringstream out_;
};

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

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<' || c == '&' || static_cast<unsigned char>(c) < 0x20) {
      out += '_';
    } else {
      out += c;
    }
  }
  return out;
}

// A label at a point, one decimal.
void put_label(Text& svg, double x, double y, const char* attributes, const std::string& label) {
  svg << "<text x=\"";
  svg.fixed(x, 1) << "\" y=\"";
  svg.fixed(y, 1) << "\" " << attributes << ">" << label << "</text>\n";
}

void put_grid(Text& svg, const Axes& axes) {
  for (int bits = 0; bits <= static_cast<int>(axes.most_bits); ++bits) {
    svg << "<path class=\"grid\" d=\"M";
    svg.fixed(axes.x(bits), 1) << ' ' << kTop << 'v' << kHeight << "\"/>\n";
    put_label(svg, axes.x(bits), kTop + kHeight + 18, "text-anchor=\"middle\"",
              std::to_string(bits));
  }
  for (int decade = axes.lowest_decade; decade <= axes.highest_decade; ++decade) {
    const double y = axes.y(std::pow(10.0, decade));
    svg << "<path class=\"grid\" d=\"M" << kLeft << ' ';
    svg.fixed(y, 1) << 'h' << kWidth << "\"/>\n";
    put_label(svg, kLeft - 8, y + 4, "text-anchor=\"end\"", "1e" + std::to_string(decade));
  }
  put_label(svg, kLeft + kWidth / 2, kTop + kHeight + 38, "text-anchor=\"middle\"", "bits a value");
  svg << "<text transform=\"translate(22 " << kTop + kHeight / 2
      << ") rotate(-90)\" text-anchor=\"middle\">mean KL, nats</text>\n";
}

// What a profile's name says beside the profile: "-flat", "-predicted", "/64".
std::string variant_of(const std::string& name) {
  const std::size_t at = name.find_first_of("-/");
  return at == std::string::npos ? std::string() : name.substr(at);
}

// A line through the profiles of each variant, and all points.
void put_points(Text& svg, const Axes& axes, const std::vector<Point>& points) {
  std::map<std::string, std::vector<Point>> variants;
  for (const Point& p : points) {
    if (!p.is_baseline) variants[variant_of(p.name)].push_back(p);
  }
  for (const auto& variant : variants) {
    const char* command = "<path class=\"curve\" d=\"M";
    for (const Point& p : variant.second) {
      svg << command;
      svg.fixed(axes.x(p.bits), 1) << ' ';
      svg.fixed(axes.y(p.kl), 1);
      command = "L";
    }
    svg << "\"/>\n";
  }
  for (const Point& p : points) {
    const char* kind = p.is_baseline ? "class=\"baseline\"" : "class=\"profile\"";
    svg << "<circle " << kind << " cx=\"";
    svg.fixed(axes.x(p.bits), 1) << "\" cy=\"";
    svg.fixed(axes.y(p.kl), 1) << "\" r=\"4\"/>\n";
    put_label(svg, axes.x(p.bits) + 7, axes.y(p.kl) - 5, kind, p.name);
  }
}

}  // namespace

std::string rate_distortion_tables(const Evaluation& evaluation) {
  Text out;
  if (!evaluation.model.empty()) out << evaluation.model << "\n\n";
  for (std::size_t s = 0; s < evaluation.sets.size(); ++s) {
    const std::size_t rows =
        evaluation.codecs.empty() ? 0 : evaluation.codecs[0].sets[s].divergence.rows;
    out << (s == 0 ? "" : "\n") << evaluation.sets[s] << ": " << rows << " tokens scored\n";
    out.left("codec", 20);
    for (const char* title :
         {"bits/value", "mean KL", "median", "p99", "p99.9", "top-1", "d ln PPL"})
      out.right(title, 11);
    out << "\n";
    for (const CodecFigures& codec : evaluation.codecs) {
      const SetFigures& f = codec.sets[s];
      const Divergence& d = f.divergence;
      out.left(codec.name, 20).fixed(f.bits_per_value(), 3, 11);
      for (const double kl : {d.mean, d.median, d.p99, d.p999}) out.scientific(kl, 11);
      out.fixed(100.0 * d.top1, 2, 10) << "%";
      out.scientific(d.loss, 11) << "\n";
    }
  }
  return out.str();
}

std::string rate_distortion_plot(const Evaluation& evaluation) {
  std::vector<std::vector<Point>> panels;
  for (std::size_t s = 0; s < evaluation.sets.size(); ++s)
    panels.push_back(points_of(evaluation, s));
  const Axes axes(panels);
  const double height = kPanelHeight * static_cast<double>(panels.size());
  Text svg;
  svg << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 " << height
      << "\" font-family=\"sans-serif\" font-size=\"12\">\n"
      << "<style>.grid{stroke:#ddd;fill:none}.curve{stroke:#1565c0;stroke-width:2;fill:none}"
         "circle.profile{fill:#1565c0}circle.baseline{fill:#c62828}text.profile{fill:#1565c0}"
         "text.baseline{fill:#c62828}</style>\n"
      << "<rect width=\"760\" height=\"" << height << "\" fill=\"#fff\"/>\n";
  for (std::size_t s = 0; s < panels.size(); ++s) {
    svg << "<g transform=\"translate(0 " << kPanelHeight * static_cast<double>(s) << ")\">\n";
    const std::string of = evaluation.model.empty() ? "" : escaped(evaluation.model) + ", ";
    put_label(svg, kLeft, 24, "font-weight=\"bold\"", of + evaluation.sets[s]);
    put_grid(svg, axes);
    put_points(svg, axes, panels[s]);
    svg << "</g>\n";
  }
  svg << "</svg>\n";
  return svg.str();
}

}  // namespace kvferry
