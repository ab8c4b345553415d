// Open files on their way from one process to another: a pair of sockets, over which descriptors alone travel.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include <napi.h>
#include <sys/socket.h>
#include <sys/uio.h>

namespace {

// Linux takes at most 253 in one message.
constexpr uint32_t kMost = 200;

Napi::Value fail(Napi::Env env, const char* call) {
  Napi::Error::New(env, std::string(call) + ": " + std::strerror(errno)).ThrowAsJavaScriptException();
  return env.Undefined();
}

// () -> [descriptor, descriptor]
Napi::Value pair(const Napi::CallbackInfo& info) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return fail(info.Env(), "socketpair");
  const Napi::Array result = Napi::Array::New(info.Env(), 2);
  for (uint32_t i = 0; i < 2; ++i) result.Set(i, Napi::Number::New(info.Env(), ends[i]));
  return result;
}

struct Message {
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(kMost * sizeof(int))] = {};
  msghdr head{};
  explicit Message(uint32_t count) {
    head.msg_iov = &data;
    head.msg_iovlen = 1;
    head.msg_control = control;
    head.msg_controllen = CMSG_SPACE(count * sizeof(int));
  }
};

// (socket, descriptors): they lie in the socket when this returns.
Napi::Value send(const Napi::CallbackInfo& info) {
  const int socket = info[0].As<Napi::Number>().Int32Value();
  const Napi::Array all = info[1].As<Napi::Array>();
  for (uint32_t begin = 0; begin < all.Length(); begin += kMost) {
    const uint32_t count = std::min(kMost, all.Length() - begin);
    Message message(count);
    cmsghdr* control = CMSG_FIRSTHDR(&message.head);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(count * sizeof(int));
    for (uint32_t i = 0; i < count; ++i) {
      const int fd = all.Get(begin + i).As<Napi::Number>().Int32Value();
      std::memcpy(CMSG_DATA(control) + i * sizeof fd, &fd, sizeof fd);
    }
    ssize_t sent;
    do sent = sendmsg(socket, &message.head, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent < 0) return fail(info.Env(), "sendmsg");
  }
  return info.Env().Undefined();
}

// (socket, count) -> descriptors, which have been sent already.
Napi::Value receive(const Napi::CallbackInfo& info) {
  const int socket = info[0].As<Napi::Number>().Int32Value();
  const uint32_t wanted = info[1].As<Napi::Number>().Uint32Value();
  const Napi::Array result = Napi::Array::New(info.Env());
  while (result.Length() < wanted) {
    Message message(kMost);
    ssize_t got;
    do got = recvmsg(socket, &message.head, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got < 0) return fail(info.Env(), "recvmsg");
    const cmsghdr* control = CMSG_FIRSTHDR(&message.head);
    errno = EBADMSG;
    if (got == 0 || (message.head.msg_flags & MSG_CTRUNC) != 0 || control == nullptr || control->cmsg_type != SCM_RIGHTS) {
      return fail(info.Env(), "recvmsg");
    }
    for (size_t at = 0; at + sizeof(int) <= control->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(control) + at, sizeof fd);
      result.Set(result.Length(), Napi::Number::New(info.Env(), fd));
    }
  }
  return result;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("pair", Napi::Function::New(env, pair));
  exports.Set("send", Napi::Function::New(env, send));
  exports.Set("receive", Napi::Function::New(env, receive));
  return exports;
}

}  // namespace

NODE_API_MODULE(kernlock_handover, init)
