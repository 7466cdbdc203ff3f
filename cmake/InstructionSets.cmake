# Which instruction sets the kernels are compiled for. Sets SEP_TARGETS (the widest last) and SEP_<NAME>_FLAGS.

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64" AND NOT CMAKE_OSX_ARCHITECTURES STREQUAL "arm64")
  set(SEP_TARGETS v2 v3 v4)
  set(SEP_V2_FLAGS -march=x86-64-v2)
  set(SEP_V3_FLAGS -march=x86-64-v3)
  set(SEP_V4_FLAGS -march=x86-64-v4 -mprefer-vector-width=512)
  set(SEP_V4VNNI_FLAGS ${SEP_V4_FLAGS} -mavx512vnni)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64|ARM64" OR CMAKE_OSX_ARCHITECTURES STREQUAL "arm64")
  set(SEP_TARGETS neon)
else()
  set(SEP_TARGETS base)
endif()

set(SEP_INSTRUCTION_SETS all CACHE STRING
    "all; native: the widest that this processor runs, alone (the core compiles in half the time, and runs here only)")
if(SEP_INSTRUCTION_SETS STREQUAL "native")
  list(LENGTH SEP_TARGETS known)
  if(known GREATER 1)
    try_run(separable_ran separable_compiled "${CMAKE_BINARY_DIR}/widest_target"
            "${CMAKE_CURRENT_SOURCE_DIR}/cmake/widest_target.cpp"
            CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${CMAKE_CURRENT_SOURCE_DIR}/cpp" RUN_OUTPUT_VARIABLE separable_widest)
    string(STRIP "${separable_widest}" separable_widest)
    if(NOT separable_compiled OR NOT separable_widest IN_LIST SEP_TARGETS)
      message(FATAL_ERROR "separable: SEP_INSTRUCTION_SETS=native: this processor could not be asked what it runs "
                          "(${separable_widest}). Leave the option away.")
    endif()
    set(SEP_TARGETS ${separable_widest})
  endif()
elseif(NOT SEP_INSTRUCTION_SETS STREQUAL "all")
  message(FATAL_ERROR "separable: SEP_INSTRUCTION_SETS is all or native, got '${SEP_INSTRUCTION_SETS}'")
endif()

set(SEP_TARGETS_X)
foreach(target IN LISTS SEP_TARGETS)
  string(APPEND SEP_TARGETS_X " X(${target})")
endforeach()
set(SEP_WITH_V4VNNI 0)
if(v4 IN_LIST SEP_TARGETS)  # differs in the products of whole numbers alone
  set(SEP_WITH_V4VNNI 1)
  list(APPEND SEP_TARGETS v4vnni)
endif()
configure_file(cmake/compiled_targets.h.in "${CMAKE_BINARY_DIR}/generated/base/compiled_targets.h" @ONLY)
