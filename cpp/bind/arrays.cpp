#include "bind/arrays.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <stdexcept>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "io/extent.h"

namespace sep::bind {

using namespace nb::literals;

// By the letter of the format and the size of the items: the same letter is of different sizes on different systems.
std::optional<Element> Buffer::element() const {
  const Py_buffer& b = buffer_;
  const char* format = b.format ? b.format : "";
  if (*format == '@' || *format == '=' || *format == (std::endian::native == std::endian::little ? '<' : '>')) format++;
  if (!format[0] || format[1]) return {};
  if (*format == '?' && b.itemsize == 1) return Element::boolean;
  if (*format == 'f' && b.itemsize == 4) return Element::f32;
  if (*format == 'd' && b.itemsize == 8) return Element::f64;
  const bool is_signed = std::strchr("bhilq", *format), is_unsigned = std::strchr("BHILQ", *format);
  if (!is_signed && !is_unsigned) return {};
  switch (b.itemsize) {
    case 1:
      return is_signed ? Element::i8 : Element::u8;
    case 2:
      return is_signed ? Element::i16 : Element::u16;
    case 4:
      return is_signed ? Element::i32 : Element::u32;
    case 8:
      return is_signed ? Element::i64 : Element::u64;
    default:
      return {};
  }
}

bool Buffer::aligned() const {
  uintptr_t bits = reinterpret_cast<uintptr_t>(buffer_.buf);
  for (int i = 0; i < buffer_.ndim; i++)
    if (buffer_.shape[i] > 1) bits |= uintptr_t(buffer_.strides[i]);
  return bits % size_t(buffer_.itemsize) == 0;
}

const char* View::wrong(const Shape& shape) const {
  if (size_t(buffer_->ndim) != shape.size()) return "another number of axes than the job was made for";
  if (!buffer_->strides) return "memory without strides";  // what ctypes gives, whatever is asked of it
  if (!std::equal(shape.begin(), shape.end(), buffer_->shape)) return "another shape than the job was made for";
  return buffer_.aligned() ? nullptr : "memory that is not aligned to its items";
}

bool is_double(const std::string& dtype) {
  if (dtype != "float32" && dtype != "float64") throw nb::value_error("dtype must be 'float32' or 'float64'");
  return dtype == "float64";
}

void check_size(const Shape& shape, size_t item) {
  size_t bytes = item;
  for (ptrdiff_t n : shape)
    if (n < 0 || (n > 0 && __builtin_mul_overflow(bytes, size_t(n), &bytes)) || bytes > size_t(PTRDIFF_MAX))
      throw std::overflow_error("an array of this shape does not fit the address space");
}

int usable_threads(int threads) { return std::clamp(threads, 1, 1024); }

Mode mode_of(int code) {
  if (code < 0 || code >= kModes)
    throw nb::value_error(("mode codes are 0 (reflect) to " + std::to_string(kModes - 1)).c_str());
  return Mode(code);
}
Rounding rounding_of(int code) {
  if (code < 0 || code > int(Rounding::truncate))
    throw nb::value_error("codes of rounding are 0 (nearest) and 1 (truncate)");
  return Rounding(code);
}
Overflow overflow_of(int code) {
  if (code < 0 || code > int(Overflow::wrap)) throw nb::value_error("codes of overflow are 0 (saturate) and 1 (wrap)");
  return Overflow(code);
}
namespace {

// (smallest, largest) of the samples, without NaN and those that the mask (None, or bool of the shape) masks; as
// floats.
nb::tuple extent(const Shape& shape, nb::handle src, int threads, nb::handle mask) {
  View s(src, false, shape, [](Element) { return true; }, "src");
  std::optional<View> m;
  if (!mask.is_none()) m.emplace(mask, false, shape, [](Element e) { return e == Element::boolean; }, "mask");
  const Input in{s.data(), s.strides(), s.element(), m ? m->data() : nullptr, m ? m->strides() : nullptr};
  Extent range;
  {
    nb::gil_scoped_release free;
    range = extent_of(shape, in, usable_threads(threads));
  }
  return nb::make_tuple(range.low, range.high);
}

// An uninitialised array, aligned to a cache line; a large one is aligned to huge pages, and on Linux asks for them.
nb::object empty(const Shape& shape, const std::string& dtype) {
  const bool wide = is_double(dtype);
  check_size(shape, wide ? 8 : 4);
  size_t bytes = wide ? 8 : 4;
  for (ptrdiff_t n : shape) bytes *= size_t(n);
  constexpr size_t kHuge = size_t(2) << 20;
  static constexpr std::align_val_t line{64}, page{kHuge};
  const bool big = bytes >= 2 * kHuge;
  void* p = ::operator new(std::max<size_t>(bytes, 64), big ? page : line);
#if defined(__linux__)
  if (big) madvise(p, bytes / kHuge * kHuge, MADV_HUGEPAGE);
#endif
  nb::capsule owner = big ? nb::capsule(p, [](void* q) noexcept { ::operator delete(q, page); })
                          : nb::capsule(p, [](void* q) noexcept { ::operator delete(q, line); });
  std::vector<size_t> dims(shape.begin(), shape.end());
  if (wide) return nb::cast(nb::ndarray<nb::numpy, double>(p, dims.size(), dims.data(), owner));
  return nb::cast(nb::ndarray<nb::numpy, float>(p, dims.size(), dims.data(), owner));
}

}  // namespace

void bind_arrays(nb::module_& m) {
  m.def("empty", &empty, "shape"_a, "dtype"_a);
  m.def("extent", &extent, "shape"_a, "src"_a, "threads"_a, "mask"_a = nb::none());
}

}  // namespace sep::bind
