#define LOREUN_ISA avx512
#include "cpu/isa.inc.h"
