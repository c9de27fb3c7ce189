// The one place that states the library's version; the build and the package files read it from
// here.
#pragma once

#define KVFERRY_VERSION_MAJOR 0
#define KVFERRY_VERSION_MINOR 1
#define KVFERRY_VERSION_PATCH 0
#define KVFERRY_VERSION "0.1.0"
