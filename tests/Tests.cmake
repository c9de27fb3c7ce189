# How tests are declared. Every test may exit with 77 to say that it was skipped; it prints
# why, on a line that begins with `skipped:`.
#
# Labels say where a test runs:
#   model       needs the SmolLM2 file (see support/model.hpp); not in sanitizer or cross builds
#   model_once  with `model`: runs under ASan and UBSan all the same
#   threads     runs under TSan, alone of all tests
#   e2e         starts the example programs as processes; not in cross builds
#   host        looks at the source tree or at the build; only in plain builds
#   long        not in `tests/run`, only in `tests/run --all`

# kvferry_runs_here(<variable> <label> …): whether a test of these labels belongs in this build tree.
function(kvferry_runs_here result)
  set(runs ON)
  if(CMAKE_CROSSCOMPILING)
    foreach(label model e2e host)
      if(label IN_LIST ARGN)
        set(runs OFF)
      endif()
    endforeach()
  elseif(KVFERRY_SANITIZE)
    if(host IN_LIST ARGN)
      set(runs OFF)
    elseif(KVFERRY_SANITIZE MATCHES "thread")
      if(NOT threads IN_LIST ARGN)
        set(runs OFF)
      endif()
    endif()
    if(model IN_LIST ARGN AND (NOT model_once IN_LIST ARGN OR KVFERRY_SANITIZE MATCHES "thread"))
      set(runs OFF)
    endif()
  endif()
  set(${result} ${runs} PARENT_SCOPE)
endfunction()

# kvferry_add_test(<name> LABELS <label> … COMMAND <program> <argument> …): one ctest entry.
function(kvferry_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "LABELS;COMMAND")
  add_test(NAME ${KVFERRY_TEST_PREFIX}${name} COMMAND ${arg_COMMAND})
  set_tests_properties(${KVFERRY_TEST_PREFIX}${name} PROPERTIES
    LABELS "${arg_LABELS}" SKIP_RETURN_CODE 77 TIMEOUT 900)
endfunction()

# Options of test programs. Release trees compile them at -O1, which takes half the time; what they
# test is in the libraries.
function(kvferry_test_options target)
  kvferry_options(${target})
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
endfunction()

# The Catch2 main of test programs, with the definitions given.
function(kvferry_test_main target)
  add_library(${target} STATIC support/main.cpp)
  target_link_libraries(${target} PUBLIC Catch2::Catch2)
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${target} PRIVATE ${ARGN})
  kvferry_test_options(${target})
endfunction()

# kvferry_test(<name> SOURCES a.cpp … LIBRARIES kvferry::x … LABELS <label> …): one Catch2 program
# test_<name>, one ctest entry. Golden data lies under KVFERRY_GOLDEN_DIR.
function(kvferry_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBRARIES;LABELS")
  kvferry_runs_here(runs ${arg_LABELS})
  if(NOT runs)
    return()
  endif()
  set(main kvferry_test_main)
  if(model IN_LIST arg_LABELS)
    set(main kvferry_model_test_main)
  endif()
  add_executable(test_${name} ${arg_SOURCES})
  target_link_libraries(test_${name} PRIVATE ${main} ${arg_LIBRARIES})
  target_compile_definitions(test_${name} PRIVATE
    KVFERRY_GOLDEN_DIR="${PROJECT_SOURCE_DIR}/tests/golden")
  kvferry_test_options(test_${name})
  kvferry_add_test(${name} COMMAND test_${name} LABELS ${arg_LABELS})
  if(model IN_LIST arg_LABELS)
    # It uses every core itself.
    set_tests_properties(${KVFERRY_TEST_PREFIX}${name} PROPERTIES PROCESSORS 2)
  endif()
endfunction()
