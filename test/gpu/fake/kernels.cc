// A GPU kernel library for tests with the fake driver: every op of a model, each of them one launch that computes nothing.
#include "kernlock.h"
#include "ops.h"

namespace {

struct Instance {
  kl_host host;
  kl_module module;
  kl_function functions[KL_OP_COUNT];
};

#define FAKE_ENTRY(constant, name, type) {#name "/fake", constant, sizeof(type)},
const kl_op table[] = {KL_FOR_EACH_OP(FAKE_ENTRY)};
#undef FAKE_ENTRY

#ifdef FAKE_PTX
// A fatbin of PTX alone.
const struct alignas(8) {
  uint32_t magic = 0xba55ed50;
  uint16_t version = 1, header = 16;
  uint64_t body = 64 + sizeof text;
  uint16_t kind = 1, kind_version = 0x0101;
  uint32_t entry_header = 64;
  uint64_t payload = sizeof text;
  uint32_t packed = 0, unused[2] = {}, architecture = 90, unused_too[2] = {};
  uint64_t flags = 0x11, unused_three = 0, unpacked = 0;
  char text[48] = ".version 9.0\n.target sm_90\n.address_size 64\n";
} image;
static_assert(sizeof image == 16 + 64 + 48);
#elif defined FAKE_TEXT
const unsigned char image[] = ".version 9.0 .target sm_90a";
#else
const unsigned char image[] = {0x7f, 'E', 'L', 'F', 2, 1, 1, 0};
#endif

kl_status open(const kl_host* host, const kl_device*, void* memory, kl_instance* out) {
  auto& self = *static_cast<Instance*>(memory);
  self.host = *host;
  if (const kl_status status = host->module_load(host->self, &image, sizeof image, &self.module)) return status;
  for (unsigned i = 0; i < sizeof table / sizeof table[0]; ++i) {
#ifdef FAKE_ABSENT
    const char* name = "absent";
#else
    const char* name = table[i].name;
#endif
    if (const kl_status status = host->function_get(host->self, self.module, name, &self.functions[i])) return status;
  }
  *out = reinterpret_cast<kl_instance>(&self);
  return KL_OK;
}

kl_status launch(kl_instance handle, uint32_t index, const void*, const kl_context* context) {
  auto& self = *reinterpret_cast<Instance*>(handle);
  kl_launch low{};
  low.size = sizeof low;
  for (int i = 0; i < 3; ++i) low.grid[i] = low.block[i] = 1;
  low.pdl = context->flags & 1;
  low.function = self.functions[index];
  low.stream = context->stream;
  return self.host.launch(self.host.self, &low);
}

kl_status close(kl_instance handle) {
  auto& self = *reinterpret_cast<Instance*>(handle);
  return self.host.module_unload(self.host.self, self.module);
}

const kl_api api = {sizeof(kl_api), KL_ABI, sizeof table / sizeof table[0], 0, table, open, launch, close, sizeof(Instance)};

}  // namespace

extern "C" __attribute__((visibility("default"))) const kl_api* kl_get_api(uint32_t abi) { return abi == KL_ABI ? &api : nullptr; }
