// What torch's headers ask of newer C and C++ libraries than a manylinux_2_28 system has, defined here, hidden: a wheel
// that a newer compiler built serves that system all the same. Weak, since the compilers made for such systems bring
// definitions of their own. The names are those of the ABI, given to the assembler alone.
#ifdef __linux__
#include <new>
#include <sstream>

#if defined(__GLIBCXX__) && _GLIBCXX_USE_CXX11_ABI

#define BNRNN_OLDER(name) __asm__(name) __attribute__((weak, visibility("hidden")))

extern "C" {

// GLIBC_2.32. Where it is 0, std::shared_ptr counts with atomic operations, as it must where other threads may run.
extern char bnrnn_single_threaded BNRNN_OLDER("__libc_single_threaded");
char bnrnn_single_threaded = 0;

// GLIBCXX_3.4.29: std::__throw_bad_array_new_length(), for a std::vector of more than all memory.
[[noreturn]] void bnrnn_throw_length() BNRNN_OLDER("_ZSt28__throw_bad_array_new_lengthv");
void bnrnn_throw_length() { throw std::bad_array_new_length(); }

// GLIBCXX_3.4.26: the constructors without arguments. Those with a mode are as old as the classes.
void bnrnn_stringstream(void* place) BNRNN_OLDER("_ZNSt7__cxx1118basic_stringstreamIcSt11char_traitsIcESaIcEEC1Ev");
void bnrnn_stringstream(void* place) { new (place) std::stringstream(std::ios_base::in | std::ios_base::out); }

void bnrnn_ostringstream(void* place) BNRNN_OLDER("_ZNSt7__cxx1119basic_ostringstreamIcSt11char_traitsIcESaIcEEC1Ev");
void bnrnn_ostringstream(void* place) { new (place) std::ostringstream(std::ios_base::out); }

}  // extern "C"

#endif
#endif
