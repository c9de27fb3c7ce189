# Installs BUILD to TO, by way of another folder: an installation has to work wherever it lies, and
# must not refer to the SOURCE or the build it came from.
file(REMOVE_RECURSE ${TO} ${TO}.first)
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${TO}.first
                RESULT_VARIABLE status OUTPUT_QUIET)
if(status)
  message(FATAL_ERROR "cmake --install failed: ${status}")
endif()
file(RENAME ${TO}.first ${TO})

file(GLOB_RECURSE files ${TO}/*.cmake ${TO}/*.hpp)
if(NOT files)
  message(FATAL_ERROR "nothing was installed")
endif()
foreach(file ${files})
  file(READ ${file} text)
  foreach(path ${SOURCE} ${BUILD} ${TO})
    string(FIND "${text}" "${path}" at)
    if(NOT at EQUAL -1)
      message(FATAL_ERROR "${file} refers to ${path}")
    endif()
  endforeach()
endforeach()
