#define BNRNN_ISA avx512
#define BNRNN_VECTOR_BYTES 64
#define BNRNN_VECTOR_REGISTERS 32
#include "kernels.h"
