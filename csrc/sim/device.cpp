// The host side of the emulated GPU: its properties, its limits, and the runtime functions that ask for them.
#include <algorithm>
#include <cstring>
#include <map>

#include "machine.h"

namespace loreun_sim {

Device device;

namespace {

constexpr int kSharedDefault = 48 * 1024, kSharedReserved = 1024;  // bytes per block, as on every GPU since Volta
std::map<const void*, int> limits;                                 // by kernel, what it was allowed to use
cudaError_t last_error = cudaSuccess;
int64_t launches = 0;
Shape last_shape;

int threads_per_sm() {
  if (device.capability == 75) return 1024;
  return device.capability == 86 || device.capability == 89 || device.capability >= 120 ? 1536 : 2048;
}

int blocks_limit() { return device.capability == 75 || device.capability == 86 ? 16 : device.capability == 89 ? 24 : 32; }

}  // namespace

int Device::blocks_per_sm(int threads, size_t shared_bytes) const {
  const int rounded = (threads + 31) / 32 * 32;
  if (threads < 1 || threads > 1024 || shared_bytes > size_t(shared_optin)) return 0;
  const int by_memory = (shared_optin + kSharedReserved) / int(shared_bytes + kSharedReserved);
  return std::min({threads_per_sm() / rounded, blocks_limit(), by_memory});
}

size_t shared_limit(const void* kernel) {
  const auto found = limits.find(kernel);
  return size_t(found == limits.end() ? std::min(kSharedDefault, device.shared_optin) : found->second);
}

cudaError_t record(const Shape& shape, cudaError_t error) {
  ++launches;
  last_shape = shape;
  if (error != cudaSuccess) last_error = error;
  return error;
}

}  // namespace loreun_sim

using loreun_sim::device;

extern "C" {

// Properties of the GPU that the next launches see; values below 0 stay as they are.
void loreun_sim_configure(int sms, int shared_optin, int capability, int64_t seed) {
  if (sms >= 0) device.sms = sms;
  if (shared_optin >= 0) device.shared_optin = shared_optin;
  if (capability >= 0) device.capability = capability;
  if (seed >= 0) device.seed = uint64_t(seed);
  loreun_sim::limits.clear();
}

// From the next launch on, others' kernels hold so many SMs.
void loreun_sim_hold(int sms) { device.held = sms; }

int64_t loreun_sim_launches() { return loreun_sim::launches; }

// Of the latest launch: blocks, threads per block, bytes of shared memory, cooperative or not.
void loreun_sim_latest(int64_t values[4]) {
  const auto& shape = loreun_sim::last_shape;
  values[0] = int64_t(shape.grid.x) * shape.grid.y * shape.grid.z;
  values[1] = int64_t(shape.block.x) * shape.block.y * shape.block.z;
  values[2] = int64_t(shape.shared_bytes);
  values[3] = shape.cooperative;
}

cudaError_t cudaGetDevice(int* index) { return *index = 0, cudaSuccess; }
cudaError_t cudaPeekAtLastError() { return loreun_sim::last_error; }
cudaError_t cudaGetLastError() { return std::exchange(loreun_sim::last_error, cudaSuccess); }

cudaError_t cudaMemsetAsync(void* address, int value, size_t count, cudaStream_t) {
  std::memset(address, value, count);
  return cudaSuccess;
}

const char* cudaGetErrorName(cudaError_t error) { return error == cudaSuccess ? "cudaSuccess" : "emulated CUDA error"; }
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
  const bool fits = attribute == cudaFuncAttributeMaxDynamicSharedMemorySize && value >= 0 && value <= device.shared_optin;
  if (!fits) return loreun_sim::last_error = cudaErrorInvalidValue;
  loreun_sim::limits[kernel] = value;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = device.sms; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = device.shared_optin; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = loreun_sim::kSharedDefault; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = device.shared_optin + loreun_sim::kSharedReserved; break;
    case cudaDevAttrReservedSharedMemoryPerBlock: *value = loreun_sim::kSharedReserved; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = loreun_sim::threads_per_sm(); break;
    case cudaDevAttrMaxBlocksPerMultiprocessor: *value = loreun_sim::blocks_limit(); break;
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor: *value = 65536; break;
    case cudaDevAttrComputeCapabilityMajor: *value = device.capability / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *value = device.capability % 10; break;
    case cudaDevAttrCooperativeLaunch: *value = device.capability >= 60; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrL2CacheSize: *value = 4 << 20; break;
    default: return loreun_sim::last_error = cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

}  // extern "C"
