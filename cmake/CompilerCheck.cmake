# Finds the C++ compiler and Python's headers, or says what to install.
#
# Include it right after `project(separable LANGUAGES NONE)`: CMake's own message for a missing compiler
# names a CMake variable, which helps nobody who typed `pip install`. Enables CXX and finds Python.

# Stops with a message, and forgets the compiler first: a remembered answer would outlive the repair.
macro(separable_refuse_compiler)
  unset(CMAKE_CXX_COMPILER CACHE)
  file(REMOVE "${CMAKE_BINARY_DIR}/CMakeFiles/${CMAKE_VERSION}/CMakeCXXCompiler.cmake")
  message(FATAL_ERROR ${ARGN})
endmacro()

include(CheckLanguage)
check_language(CXX)

if(NOT CMAKE_CXX_COMPILER)
  if(DEFINED ENV{CXX})
    set(separable_tried "'$ENV{CXX}'")
  else()
    set(separable_tried "c++, g++, clang++")
  endif()
  separable_refuse_compiler(
    "separable: no C++ compiler found (tried ${separable_tried}).\n"
    "The core is C++20 and is compiled here because no ready wheel fits this machine. Install a compiler:\n"
    "  Debian, Ubuntu   apt-get install g++\n"
    "  Fedora, RHEL     dnf install gcc-c++\n"
    "  Alpine           apk add g++\n"
    "  conda            conda install cxx-compiler\n"
    "  macOS            xcode-select --install\n"
    "  Windows          Visual Studio Build Tools with 'C++ Clang tools for Windows', then set CXX=clang-cl\n"
    "and run the same command again.")
endif()

enable_language(CXX)

# Oldest releases with __builtin_shufflevector, -march=x86-64-v2/v3/v4 and the C++20 that the core uses.
set(separable_oldest_GNU 12)
set(separable_oldest_Clang 13)
set(separable_oldest_AppleClang 14)
set(separable_oldest ${separable_oldest_${CMAKE_CXX_COMPILER_ID}})

if(NOT separable_oldest)
  separable_refuse_compiler(
    "separable: the C++ compiler is ${CMAKE_CXX_COMPILER_ID} (${CMAKE_CXX_COMPILER}), which lacks GNU vector "
    "extensions.\n"
    "Use GCC or Clang: set CXX=g++ or CXX=clang++; on Windows, install 'C++ Clang tools for Windows' and set\n"
    "  CXX=clang-cl\n"
    "  CMAKE_GENERATOR=Ninja\n"
    "and run the same command again.")
elseif(CMAKE_CXX_COMPILER_VERSION VERSION_LESS separable_oldest)
  separable_refuse_compiler(
    "separable: ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} (${CMAKE_CXX_COMPILER}) is too old: "
    "version ${separable_oldest} or newer is needed.\n"
    "Install a newer one, set CXX to it (for example CXX=g++-13) and run the same command again.")
endif()

find_package(Python 3.10 QUIET COMPONENTS Interpreter Development.Module)
if(NOT Python_FOUND)
  message(FATAL_ERROR
    "separable: Python 3.10 or newer with its C headers (Python.h) was not found beside "
    "'${Python_EXECUTABLE}'. Install them:\n"
    "  Debian, Ubuntu   apt-get install python3-dev\n"
    "  Fedora, RHEL     dnf install python3-devel\n"
    "  Alpine           apk add python3-dev\n"
    "and run the same command again.")
endif()
