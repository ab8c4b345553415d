// SHA-256 and SHA-512 of the OpenSSL that Node has in it, with a state that both JavaScript and a thread can go on from.
#pragma once

#include <cstddef>

#include <napi.h>

// Node exports them; its headers are not ours to ask for.
extern "C" {
struct evp_md_ctx_st;
struct evp_md_st;
evp_md_ctx_st* EVP_MD_CTX_new();
void EVP_MD_CTX_free(evp_md_ctx_st*);
const evp_md_st* EVP_sha256();
int EVP_DigestInit_ex(evp_md_ctx_st*, const evp_md_st*, void*);
int EVP_DigestUpdate(evp_md_ctx_st*, const void*, std::size_t);
int EVP_DigestFinal_ex(evp_md_ctx_st*, unsigned char*, unsigned int*);
}

namespace kernlock {

// Never used by two at once: whoever receives holds its upload alone.
class Hash final : public Napi::ObjectWrap<Hash> {
 public:
  static Napi::Function Class(Napi::Env env);
  explicit Hash(const Napi::CallbackInfo& info);
  ~Hash() override;

  bool Update(const void* bytes, std::size_t length) { return EVP_DigestUpdate(state_, bytes, length) == 1; }

 private:
  Napi::Value Update(const Napi::CallbackInfo& info);
  Napi::Value Digest(const Napi::CallbackInfo& info);
  evp_md_ctx_st* state_;
};

}  // namespace kernlock
