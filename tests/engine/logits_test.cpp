// What a row of logits says, against values worked out by hand.
#include "kvferry/engine/logits.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include <catch2/catch.hpp>

using kvferry::log_sum_exp;
using kvferry::TokenId;
using kvferry::top_tokens;

TEST_CASE("log_sum_exp neither overflows nor loses what is small") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK(log_sum_exp(std::vector<float>{-3.5f}) == -3.5);
  CHECK(log_sum_exp(std::vector<float>{0, 0, 0, 0}) == Approx(std::log(4.0)).epsilon(1e-15));
  CHECK(log_sum_exp(std::vector<float>{1000, 1000}) == Approx(1000 + std::log(2.0)).epsilon(1e-15));
  CHECK(log_sum_exp(std::vector<float>{-1000, -1001, -kInfinity}) ==
        Approx(-1000 + std::log1p(std::exp(-1.0))).epsilon(1e-15));
}

TEST_CASE("top_tokens orders by logit, equals by id") {
  const std::vector<float> logits = {1, 7, -2, 7, 0, 7, 3};
  using Tokens = std::vector<TokenId>;
  CHECK(top_tokens(logits, 0).empty());
  CHECK(top_tokens(logits, 1) == Tokens{1});
  CHECK(top_tokens(logits, 4) == Tokens{1, 3, 5, 6});
  CHECK(top_tokens(logits, 7) == Tokens{1, 3, 5, 6, 0, 4, 2});
  CHECK(top_tokens(logits, 100) == top_tokens(logits, 7));
}
