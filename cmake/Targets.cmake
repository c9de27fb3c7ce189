# The libraries. One function a target kind, so that warnings, standard and include paths are set in
# one place.

# Compiler settings of everything the project builds.
function(kvferry_options target)
  target_compile_features(${target} PUBLIC cxx_std_17)
  set_target_properties(${target} PROPERTIES CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON
                        CXX_EXTENSIONS OFF)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
                         -Wno-sign-conversion -Wnon-virtual-dtor -Wold-style-cast -Werror)
  if(KVFERRY_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${KVFERRY_SANITIZE}
                           -fno-sanitize-recover=all -fno-omit-frame-pointer)
    # GCC warns of what is not there once code is instrumented; the plain build has the warning on.
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
    target_link_options(${target} PUBLIC -fsanitize=${KVFERRY_SANITIZE})
  endif()
  if(KVFERRY_FUZZ)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
endfunction()

# kvferry_library(<component> HEADERS <layer> … SOURCES <layer> …): the static library
# kvferry::<component> with the headers and compiled sources of these layers, and its part of the
# installation.
function(kvferry_library component)
  cmake_parse_arguments(arg "" "" "HEADERS;SOURCES" ${ARGN})
  set(target kvferry_${component})
  add_library(${target} STATIC)
  add_library(kvferry::${component} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${component} POSITION_INDEPENDENT_CODE ON)
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  kvferry_options(${target})
  foreach(layer ${arg_SOURCES})
    add_subdirectory(${PROJECT_SOURCE_DIR}/src/${layer} ${PROJECT_BINARY_DIR}/src/${layer})
  endforeach()
  foreach(layer ${arg_HEADERS})
    # No component builds the CUDA paths.
    install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/kvferry/${layer}
            DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/kvferry
            PATTERN cuda EXCLUDE PATTERN ampere_path.hpp EXCLUDE)
  endforeach()
  install(TARGETS ${target} EXPORT kvferry-${component} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT kvferry-${component} NAMESPACE kvferry:: FILE kvferry-${component}.cmake
          DESTINATION ${kvferry_package_dir})
endfunction()

set(kvferry_components core)
if(KVFERRY_NET)
  list(APPEND kvferry_components net)
endif()
if(KVFERRY_ENGINE)
  list(APPEND kvferry_components engine)
endif()
if(KVFERRY_NET AND KVFERRY_ENGINE)
  list(APPEND kvferry_components node)
endif()

foreach(component ${kvferry_components})
  kvferry_find_dependencies(${component})
endforeach()
if(KVFERRY_NET)
  # Asio is headers only and appears in no header of ours, so that only the build needs it.
  find_path(KVFERRY_ASIO_INCLUDE_DIR asio.hpp)
  if(NOT KVFERRY_ASIO_INCLUDE_DIR)
    list(APPEND kvferry_missing libasio-dev)
  endif()
endif()
if(KVFERRY_ENGINE)
  # Likewise; the calibration of the codec solves its equations with it.
  find_path(KVFERRY_EIGEN_INCLUDE_DIR Eigen/Core PATH_SUFFIXES eigen3)
  if(NOT KVFERRY_EIGEN_INCLUDE_DIR)
    list(APPEND kvferry_missing libeigen3-dev)
  endif()
endif()
if(kvferry_missing)
  list(REMOVE_DUPLICATES kvferry_missing)
  list(JOIN kvferry_missing " " kvferry_missing)
  message(FATAL_ERROR "kvferry needs packages that were not found; on Debian: apt-get install ${kvferry_missing}")
endif()

include(GNUInstallDirs)
set(kvferry_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/kvferry)

kvferry_library(core HEADERS core model cache codec wire transport handoff testing SOURCES codec)
target_link_libraries(kvferry_core
  PUBLIC PkgConfig::kvferry_zstd PkgConfig::kvferry_xxhash Threads::Threads)
# The same floats from the same input on every CPU, also where our inline functions are compiled
# into a user's program: on Arm GCC would otherwise fuse a multiplication and an addition.
target_compile_options(kvferry_core PUBLIC $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)

if(net IN_LIST kvferry_components)
  kvferry_library(net SOURCES transport)
  target_link_libraries(kvferry_net PUBLIC kvferry::core)
  target_include_directories(kvferry_net SYSTEM PRIVATE ${KVFERRY_ASIO_INCLUDE_DIR})
  target_compile_definitions(kvferry_net PRIVATE ASIO_STANDALONE)
endif()
if(engine IN_LIST kvferry_components)
  kvferry_library(engine HEADERS compute engine quality SOURCES compute engine quality)
  target_link_libraries(kvferry_engine PUBLIC kvferry::core PRIVATE PkgConfig::kvferry_pcre2)
  target_include_directories(kvferry_engine SYSTEM PRIVATE ${KVFERRY_EIGEN_INCLUDE_DIR})
endif()
if(node IN_LIST kvferry_components)
  kvferry_library(node HEADERS node SOURCES node)
  target_link_libraries(kvferry_node PUBLIC kvferry::net kvferry::engine)
endif()

include(CMakePackageConfigHelpers)
configure_package_config_file(cmake/kvferry-config.cmake.in kvferry-config.cmake
  INSTALL_DESTINATION ${kvferry_package_dir})
write_basic_package_version_file(kvferry-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/kvferry-config.cmake
              ${PROJECT_BINARY_DIR}/kvferry-config-version.cmake
              cmake/Dependencies.cmake
        DESTINATION ${kvferry_package_dir})
