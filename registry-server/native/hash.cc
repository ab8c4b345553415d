#include "hash.h"

#include <string>

namespace kernlock {

Napi::Function Hash::Class(Napi::Env env) {
  return DefineClass(env, "Sha256", {InstanceMethod<&Hash::Update>("update"), InstanceMethod<&Hash::Digest>("digest")});
}

Hash::Hash(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Hash>(info), state_(EVP_MD_CTX_new()) {
  if (state_ == nullptr || EVP_DigestInit_ex(state_, EVP_sha256(), nullptr) != 1) {
    Napi::Error::New(info.Env(), "SHA-256 cannot be computed").ThrowAsJavaScriptException();
  }
}

Hash::~Hash() { EVP_MD_CTX_free(state_); }

Napi::Value Hash::Update(const Napi::CallbackInfo& info) {
  const auto bytes = info[0].As<Napi::Uint8Array>();
  if (!Update(bytes.Data(), bytes.ByteLength())) {
    Napi::Error::New(info.Env(), "SHA-256 cannot be computed").ThrowAsJavaScriptException();
  }
  return info.Env().Undefined();
}

// Hex. The state ends with it.
Napi::Value Hash::Digest(const Napi::CallbackInfo& info) {
  unsigned char bytes[64];
  unsigned length = 0;
  if (EVP_DigestFinal_ex(state_, bytes, &length) != 1) {
    Napi::Error::New(info.Env(), "SHA-256 cannot be computed").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  std::string hex;
  for (unsigned i = 0; i < length; i++) {
    hex += "0123456789abcdef"[bytes[i] >> 4];
    hex += "0123456789abcdef"[bytes[i] & 15];
  }
  return Napi::String::New(info.Env(), hex);
}

}  // namespace kernlock
