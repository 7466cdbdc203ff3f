#include "filters/direct_job.h"

#include <stdexcept>

#include "filters/dense_sweep.h"

namespace sep {

template <class T>
DirectJob<T>::DirectJob(std::vector<ptrdiff_t> shape, const std::vector<ptrdiff_t>& extents, const double* weights,
                        const std::vector<ptrdiff_t>& shifts, const std::vector<Mode>& modes, double cval,
                        std::vector<ptrdiff_t> frame)
    : shape_(std::move(shape)), frame_(frame.empty() ? shape_ : std::move(frame)), cval_(T(cval)) {
  const size_t d = shape_.size();
  if (d < 1 || extents.size() != d || shifts.size() != d || modes.size() != d || frame_.size() != d)
    throw std::invalid_argument("shape, frame, weights, shifts and modes must have the same number of axes");
  ptrdiff_t total = 1;
  for (size_t i = 0; i < d; i++) {
    if (extents[i] < 1 || shifts[i] < 0 || shifts[i] >= extents[i])
      throw std::invalid_argument("each axis needs at least one weight and a shift within them");
    reach_.push_back({extents[i], shifts[i], modes[i]});
    total *= extents[i];
  }
  weights_.assign(weights, weights + total);
}

template <class T>
template <class Visit>
void DirectJob<T>::with_dense(const Input& in, const Output& out, int threads, Visit visit) const {
  std::vector<DenseAxis> axes(shape_.size());
  ptrdiff_t weight = 1;
  for (size_t i = axes.size(); i-- > 0; weight *= reach_[i].taps) {
    if (shape_[i] == 0) return;
    axes[i] = {shape_[i], in.strides[i], out.strides[i], in.mask ? in.mask_strides[i] : 0, weight, reach_[i], false,
               frame_[i]};
  }
  visit(DenseSweep<T>(std::move(axes), weights_.data(), cval_, threads, in, out));
}

template <class T>
void DirectJob<T>::run(const Input& in, const Output& out, int threads) const {
  with_dense(in, out, threads, [](const DenseSweep<T>& d) { d.run(); });
}

template <class T>
size_t DirectJob<T>::scratch_bytes(int threads) const {
  std::vector<ptrdiff_t> strides(shape_.size());
  ptrdiff_t stride = sizeof(T);
  for (size_t i = strides.size(); i-- > 0; stride *= shape_[i]) strides[i] = stride;
  size_t bytes = 0;
  with_dense({nullptr, strides.data(), kOwn<T>}, {nullptr, strides.data(), kOwn<T>}, threads,
             [&](const DenseSweep<T>& d) { bytes = d.scratch_bytes(); });
  return bytes;
}

template class DirectJob<float>;
template class DirectJob<double>;

}  // namespace sep
