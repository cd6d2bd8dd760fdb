#define BNRNN_ISA baseline
#define BNRNN_VECTOR_BYTES 16
#if defined(__aarch64__)
#define BNRNN_VECTOR_REGISTERS 32
#else
#define BNRNN_VECTOR_REGISTERS 16
#endif
#include "kernels.h"
