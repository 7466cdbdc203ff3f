// Arrays and codes that cross from Python: what memory safety needs is checked here, what a caller meant in Python.
#pragma once
#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/boundary.h"
#include "io/casts.h"

namespace sep::bind {

namespace nb = nanobind;

using Shape = std::vector<ptrdiff_t>;

bool is_double(const std::string& dtype);          // of the two dtypes that jobs compute in
void check_size(const Shape& shape, size_t item);  // throws where its bytes do not fit the address space
int usable_threads(int threads);                   // the system refuses tens of thousands
Mode mode_of(int code);
Rounding rounding_of(int code);
Overflow overflow_of(int code);

// An array's memory through the buffer protocol: cheaper than DLPack, and it keeps byte strides.
class Buffer {
 public:
  Buffer(nb::handle array, bool writable) {
    if (PyObject_GetBuffer(array.ptr(), &buffer_, PyBUF_FORMAT | PyBUF_STRIDES | (writable ? PyBUF_WRITABLE : 0)) != 0)
      throw nb::python_error();
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { PyBuffer_Release(&buffer_); }

  const Py_buffer* operator->() const { return &buffer_; }
  std::optional<Element> element() const;  // none: another format, or another byte order
  bool aligned() const;                    // address and strides are multiples of the item's size

 private:
  Py_buffer buffer_;
};

// A filter's input, output or mask.
class View {
 public:
  // allowed(element): whether the job converts it
  template <class Allowed>
  View(nb::handle array, bool writable, const Shape& shape, Allowed allowed, const char* name)
      : buffer_(array, writable) {
    const std::optional<Element> element = buffer_.element();
    const char* why = element && allowed(*element) ? wrong(shape) : "a dtype that this job does not convert";
    if (why) throw nb::type_error((std::string(name) + ": " + why).c_str());
    element_ = *element;
  }

  char* data() const { return static_cast<char*>(buffer_->buf); }
  const ptrdiff_t* strides() const { return buffer_->strides; }
  Element element() const { return element_; }

 private:
  const char* wrong(const Shape& shape) const;

  Buffer buffer_;
  Element element_;
};

// Parts of the module.
void bind_arrays(nb::module_& m);
void bind_filters(nb::module_& m);
void bind_layers(nb::module_& m);
void bind_engine(nb::module_& m);

}  // namespace sep::bind
