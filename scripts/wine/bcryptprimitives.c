// bcryptprimitives.dll for Wine before 8.14: the one function of it that Go's runtime needs at start.
//
// Windows 8 and later have this library; Debian 12's Wine 8.0 does not, and there no Go program starts. It is built
// into the Wine prefix of scripts/wine.sh only, and is no part of what users get.
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) {
	while (size > 0) {
		ULONG part = size > 1u << 20 ? 1u << 20 : (ULONG)size;
		if (!RtlGenRandom(data, part)) {
			return FALSE;
		}
		data += part;
		size -= part;
	}
	return TRUE;
}
