#define LOREUN_ISA avx2
#include "cpu/isa.inc.h"
