#define BNRNN_ISA avx2
#define BNRNN_VECTOR_BYTES 32
#define BNRNN_VECTOR_REGISTERS 16
#include "kernels.h"
