/* unroll.h: how the vector kernels ask the compiler for registers in place of arrays.
 */
#ifndef MODEL_KERNELS_UNROLL_H
#define MODEL_KERNELS_UNROLL_H

/* In front of a loop whose count is known: all of it, so that its arrays become registers. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
/* Or the compiler computes addresses anew that it should keep. */
#define KEEP_IN_REGISTER(pointer) __asm__("" : "+r"(pointer))
/* Or it reads one that several instructions take from memory for each. */
#define KEEP_VECTOR(of) __asm__("" : "+v"(of))
#define ALWAYS_INLINE   static inline __attribute__((always_inline))

#endif
