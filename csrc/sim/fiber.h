// Stacks and the switch between them. swapcontext() costs a system call each time, so x86-64 has its own.
#pragma once
#include <cstddef>
#include <cstdint>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#ifndef __x86_64__
#define LOREUN_SIM_UCONTEXT
#endif
#ifdef LOREUN_SIM_UCONTEXT
#include <ucontext.h>
#endif

namespace loreun_sim {

constexpr size_t kStackBytes = size_t(1) << 16;

// A fiber that was given up left its frames behind.
inline void forget_frames([[maybe_unused]] char* stack) {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(stack, kStackBytes);
#endif
}

// A suspended flow of control; its registers lie on its own stack.
struct Context {
#ifdef LOREUN_SIM_UCONTEXT
  ucontext_t registers;
#else
  void* stack_pointer = nullptr;
#endif
};

#ifdef LOREUN_SIM_UCONTEXT

inline void prepare(Context& context, char* stack, void (*entry)()) {
  forget_frames(stack);
  getcontext(&context.registers);
  context.registers.uc_stack.ss_sp = stack;
  context.registers.uc_stack.ss_size = kStackBytes;
  context.registers.uc_link = nullptr;
  makecontext(&context.registers, entry, 0);
}

inline void switch_to(Context& from, Context& to) { swapcontext(&from.registers, &to.registers); }

#else

extern "C" void loreun_sim_switch(void** save, void* load);
asm(R"(
.text
.type loreun_sim_switch, @function
loreun_sim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size loreun_sim_switch, .-loreun_sim_switch
)");
// Six saved registers, the address to return to, and one word that keeps a function's entry aligned as the ABI wants.
constexpr int kFrameWords = 8, kEntryWord = 6;

// The next switch to `context` calls `entry`, which must not return.
inline void prepare(Context& context, char* stack, void (*entry)()) {
  forget_frames(stack);
  auto* frame = reinterpret_cast<uintptr_t*>(stack + kStackBytes) - kFrameWords;
  for (int word = 0; word < kFrameWords; ++word) frame[word] = 0;
  frame[kEntryWord] = reinterpret_cast<uintptr_t>(entry);
  context.stack_pointer = frame;
}

inline void switch_to(Context& from, Context& to) { loreun_sim_switch(&from.stack_pointer, to.stack_pointer); }

#endif

}  // namespace loreun_sim
