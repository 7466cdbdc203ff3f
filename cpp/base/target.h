// What one instruction set brings: its tables of kernels, and the stores and sums that need no table. Every unit of
// kernels is compiled once per instruction set, with SEP_TARGET naming it. Plain data and function pointers only.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sep {

struct CastTable;
struct LineTable;
struct BoxAndCosinesTable;
struct DifferencesTable;
struct LayerTable;
struct BlockTable;
struct PlainTable;
struct IntegerTable;
struct BfloatTable;

struct Target {
  const char* name;
  int vector_bytes;
  const CastTable* casts;
  const LineTable* lines;
  const BoxAndCosinesTable* box_and_cosines;
  const DifferencesTable* differences;
  const LayerTable* layers;
  const BlockTable* blocks;
  const PlainTable* plain;
  void (*stream_bytes)(char* dst, const char* src, ptrdiff_t n);  // copies past the cache; any alignment
  void (*fence)();                      // a thread that streamed calls it before others may read
  double (*fma_flops)(int64_t rounds);  // runs that many rounds of independent float32 FMAs; returns the FLOPs done
  const IntegerTable* integers;
  const BfloatTable* bfloats;
};

}  // namespace sep

// `casts` -> casts_v3: the name of this instruction set's table.
#define SEP_JOIN_(a, b) a##_##b
#define SEP_JOIN(a, b) SEP_JOIN_(a, b)
#define SEP_OF_TARGET(table) SEP_JOIN(table, SEP_TARGET)
