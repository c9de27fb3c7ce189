// Result<T>: a value or an Error. The library never throws for bad input; `.value()` throws for
// those who want exceptions.
#pragma once

#include <cassert>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

#include "kvferry/core/error.hpp"

namespace kvferry {

// Thrown by Result<T>::value() when there is an error instead of a value.
class Exception : public std::runtime_error {
 public:
  explicit Exception(const Error& error) : std::runtime_error(error.message), code_(error.code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

// A value of T, or an Error. `operator*` and `->` assert that there is a value.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}      // NOLINT: implicit by design
  Result(Error error) : state_(std::move(error)) {}  // NOLINT: implicit by design
  Result(ErrorCode code, std::string message) : state_(Error(code, std::move(message))) {}

  bool ok() const { return std::holds_alternative<T>(state_); }
  explicit operator bool() const { return ok(); }

  T& operator*() & { return get(); }
  const T& operator*() const& { return const_cast<Result*>(this)->get(); }
  T&& operator*() && { return std::move(get()); }
  T* operator->() { return &get(); }
  const T* operator->() const { return &const_cast<Result*>(this)->get(); }

  // Only when !ok().
  const Error& error() const {
    assert(!ok());
    return std::get<Error>(state_);
  }

  // The value, or throws Exception.
  T& value() & {
    if (!ok()) throw Exception(error());
    return get();
  }
  T value() && {
    if (!ok()) throw Exception(error());
    return std::move(get());
  }

 private:
  T& get() {
    assert(ok());
    return *std::get_if<T>(&state_);
  }

  std::variant<T, Error> state_;
};

// Success, or an Error.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT: implicit by design
  Result(ErrorCode code, std::string message) : error_(Error(code, std::move(message))) {}

  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  const Error& error() const {
    assert(error_.has_value());
    return *error_;
  }
  void value() const {
    if (error_) throw Exception(*error_);
  }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

}  // namespace kvferry

#define KVFERRY_CONCAT_INNER(a, b) a##b
#define KVFERRY_CONCAT(a, b) KVFERRY_CONCAT_INNER(a, b)

// Returns the error of `expression` (a Result or Status) from the enclosing function, if there is
// one.
#define KVFERRY_TRY(expression)                              \
  do {                                                       \
    auto kvferry_status = (expression);                      \
    if (!kvferry_status.ok()) return kvferry_status.error(); \
  } while (false)

// KVFERRY_ASSIGN(auto x, f()): x takes f()'s value, or its error is returned from the function.
#define KVFERRY_ASSIGN(declaration, expression) \
  KVFERRY_ASSIGN_INNER(KVFERRY_CONCAT(kvferry_result_, __LINE__), declaration, expression)
#define KVFERRY_ASSIGN_INNER(result, declaration, expression) \
  auto result = (expression);                                 \
  if (!result.ok()) return result.error();                    \
  declaration = *std::move(result)
