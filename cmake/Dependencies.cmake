# Finds what the chosen components need. Each dependency is the distribution's package.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(zstd REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
if(KVFERRY_ENGINE)
  pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
endif()
