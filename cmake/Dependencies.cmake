# What each component links. The build and the installed package both read this file, so that they
# find the same things in the same way. Each dependency is the distribution's package.

# kvferry_find(<target name> <pkg-config module> <Debian package>): makes PkgConfig::kvferry_<name>,
# visible to whoever links kvferry, or adds the Debian package to kvferry_missing.
macro(kvferry_find name module package)
  find_package(PkgConfig QUIET)
  if(NOT PkgConfig_FOUND)
    list(APPEND kvferry_missing pkg-config)
  elseif(NOT TARGET PkgConfig::kvferry_${name})
    pkg_check_modules(kvferry_${name} QUIET IMPORTED_TARGET GLOBAL ${module})
    if(NOT kvferry_${name}_FOUND)
      list(APPEND kvferry_missing ${package})
    endif()
  endif()
endmacro()

# kvferry_find_dependencies(<component>): what linking this component needs.
macro(kvferry_find_dependencies component)
  if("${component}" STREQUAL "core")
    kvferry_find(zstd libzstd libzstd-dev)
    kvferry_find(xxhash libxxhash libxxhash-dev)
    if(NOT TARGET Threads::Threads)
      set(THREADS_PREFER_PTHREAD_FLAG ON)
      find_package(Threads REQUIRED)
      set_target_properties(Threads::Threads PROPERTIES IMPORTED_GLOBAL ON)
    endif()
  elseif("${component}" STREQUAL "engine")
    kvferry_find(pcre2 libpcre2-8 libpcre2-dev)
  endif()
endmacro()
