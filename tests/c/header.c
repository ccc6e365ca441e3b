/* The header needs no other before it. */
#include "shoal.h"

int main(void) { return SHOAL_OK; }
