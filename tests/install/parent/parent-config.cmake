include(CMakeFindDependencyMacro)
find_dependency(shoal 0.1)
find_dependency(Threads)
include("${CMAKE_CURRENT_LIST_DIR}/parent.cmake")
