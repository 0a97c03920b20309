/* unroll.h: requests to the compiler that keep arrays of vectors in registers.
 */
#ifndef MODEL_KERNELS_UNROLL_H
#define MODEL_KERNELS_UNROLL_H

/* Unroll a loop of constant count completely, so that its arrays become registers. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
/* Keep an address, which the compiler would compute anew. */
#define KEEP_IN_REGISTER(pointer) __asm__("" : "+r"(pointer))
/* Load a vector once, which the compiler would make a memory operand of several instructions. */
#define KEEP_VECTOR(vector) __asm__("" : "+v"(vector))
#define ALWAYS_INLINE       static inline __attribute__((always_inline))

#endif
