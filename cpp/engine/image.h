// A batch of feature maps in memory.
#pragma once
#include <cstddef>

#include "engine/step.h"

namespace sep {

// Channels lie in blocks: [image][block][row][pixel][channel of the block]. With as many channels a block as a vector
// has lanes this is NCHWc, in which results are written; NCHW has one channel a block, NHWC all of them in one. The
// last block of NCHWc may have lanes without a channel: they may be read, and hold anything.
struct Image {
  Place place;  // of the first channel of pixel (0, 0) of the first image
  ptrdiff_t batch = 1, channels = 1, height = 1, width = 1;
  ptrdiff_t block = 1;                                                         // channels
  ptrdiff_t batch_pitch = 0, block_pitch = 0, row_pitch = 0, pixel_pitch = 0;  // elements
  ptrdiff_t top = 0, left = 0, bottom = 0, right = 0;  // pixels around it that are there, and zero

  ptrdiff_t blocks() const { return (channels + block - 1) / block; }
};

}  // namespace sep
