# Tests of kernels on the emulated SIMT machine.
#
# kvferry_simt_test(<name> KERNELS a.cpp … SOURCES b.cpp … LIBRARIES kvferry::x … LABELS <label> …):
# a Catch2 program and its ctest entry simt_<name>. KERNELS are the sources that include kernels:
# C++14, with the emulation's <cuda_runtime.h>. SOURCES are C++17 and see LIBRARIES. Release trees
# also make simt_race_<name>: the KERNELS instrumented for the race detector. RACE names further
# KERNELS of that program alone; NO_RACE leaves it out.
set(kvferry_simt_root ${CMAKE_CURRENT_LIST_DIR})

add_library(kvferry_simt STATIC
  simt/async_copy.cpp simt/block.cpp simt/collectives.cpp simt/device_memory.cpp simt/errors.cpp
  simt/fault.cpp simt/fiber.cpp simt/launch.cpp simt/matrix.cpp simt/memory_access.cpp
  simt/memory_api.cpp simt/shared_memory.cpp simt/stream.cpp)
kvferry_options(kvferry_simt)
# The emulator is never instrumented: it switches stacks and reads what it forbids kernels to read.
target_compile_options(kvferry_simt PRIVATE -fno-sanitize=all -O2)
set_source_files_properties(simt/matrix.cpp PROPERTIES COMPILE_OPTIONS -O3)
if(KVFERRY_SANITIZE MATCHES "address")
  target_compile_definitions(kvferry_simt PRIVATE KVFERRY_SIMT_ASAN)
endif()
target_include_directories(kvferry_simt PUBLIC ${kvferry_simt_root} ${kvferry_simt_root}/cuda
  ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
target_compile_options(kvferry_simt PUBLIC -ffp-contract=off)
target_link_libraries(kvferry_simt PUBLIC Threads::Threads ${CMAKE_DL_LIBS})

add_library(kvferry_simt_main STATIC main.cpp)
target_link_libraries(kvferry_simt_main PUBLIC kvferry_simt Catch2::Catch2)
kvferry_test_options(kvferry_simt_main)

# The detector stands in for libtsan: GCC's instrumentation calls it.
set(kvferry_simt_has_race OFF)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_BUILD_TYPE STREQUAL "Release" AND
   NOT KVFERRY_SANITIZE AND NOT CMAKE_CROSSCOMPILING)
  set(kvferry_simt_has_race ON)
  add_library(kvferry_simt_race STATIC race/detector.cpp race/shadow.cpp race/instrumentation.cpp)
  kvferry_options(kvferry_simt_race)
  target_link_libraries(kvferry_simt_race PUBLIC kvferry_simt)
endif()

# Objects of sources that include kernels.
function(kvferry_simt_kernels target)
  add_library(${target} OBJECT ${ARGN})
  set_target_properties(${target} PROPERTIES CXX_STANDARD 14 CXX_STANDARD_REQUIRED ON
                        CXX_EXTENSIONS OFF)
  # Kernels read memory as types of many widths, which nvcc allows.
  target_compile_options(${target} PRIVATE -Wall -Wextra -pedantic-errors -Wshadow -Werror
    -Wno-unknown-pragmas -fno-strict-aliasing -ffp-contract=off $<$<CONFIG:Release>:-O2>)
  target_include_directories(${target} PRIVATE ${kvferry_simt_root} ${kvferry_simt_root}/cuda
    ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(${target} PRIVATE Catch2::Catch2)
  if(KVFERRY_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${KVFERRY_SANITIZE}
      -fno-sanitize-recover=all -fno-omit-frame-pointer)
  endif()
endfunction()

function(kvferry_simt_program target main)
  add_executable(${target} ${ARGN})
  target_link_libraries(${target} PRIVATE ${main})
  target_compile_definitions(${target} PRIVATE
    KVFERRY_GOLDEN_DIR="${PROJECT_SOURCE_DIR}/tests/golden")
  target_compile_options(${target} PRIVATE -Wno-unknown-pragmas)
  kvferry_test_options(${target})
  set_target_properties(${target} PROPERTIES ENABLE_EXPORTS ON)  # for the kernels' names
endfunction()

function(kvferry_simt_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "NO_RACE" "" "KERNELS;RACE;SOURCES;LIBRARIES;LABELS")
  kvferry_runs_here(runs ${arg_LABELS})
  # Under qemu-user launches fail or hang, the cause of which has not been found.
  if(NOT runs OR CMAKE_CROSSCOMPILING)
    return()
  endif()
  kvferry_simt_kernels(simt_${name}_kernels ${arg_KERNELS})
  kvferry_simt_program(test_simt_${name} kvferry_simt_main ${arg_SOURCES}
    $<TARGET_OBJECTS:simt_${name}_kernels>)
  target_link_libraries(test_simt_${name} PRIVATE ${arg_LIBRARIES})
  kvferry_add_test(simt_${name} COMMAND test_simt_${name} LABELS ${arg_LABELS})
  if(kvferry_simt_has_race AND NOT arg_NO_RACE)
    kvferry_simt_kernels(simt_race_${name}_kernels ${arg_KERNELS} ${arg_RACE})
    target_compile_options(simt_race_${name}_kernels PRIVATE -fsanitize=thread -g1)
    kvferry_simt_program(test_simt_race_${name} kvferry_simt_main ${arg_SOURCES}
      $<TARGET_OBJECTS:simt_race_${name}_kernels>)
    target_link_libraries(test_simt_race_${name} PRIVATE kvferry_simt_race ${arg_LIBRARIES})
    kvferry_add_test(simt_race_${name} COMMAND test_simt_race_${name} LABELS ${arg_LABELS})
  endif()
endfunction()
