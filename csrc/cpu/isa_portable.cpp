#define LOREUN_ISA portable
#include "cpu/isa.inc.h"
