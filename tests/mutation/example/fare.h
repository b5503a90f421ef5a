// What the self-test mutates: a small machine with one of each kind of place.
#pragma once
#include <vector>

namespace fare {

struct Ride {
  int minutes = 0;
  bool night = false;
};

int price(const Ride& ride);
int total(const std::vector<Ride>& rides, int most);

}  // namespace fare
