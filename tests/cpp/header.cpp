// The headers need no others before them.
#include <shoal.hpp>

int main() { return SHOAL_OK; }
