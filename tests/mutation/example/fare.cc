#include "tests/mutation/example/fare.h"

#include <algorithm>

namespace fare {

int price(const Ride& ride) {
  if (ride.minutes <= 0) return 0;
  int cents = ride.minutes * 30;
  if (ride.night && ride.minutes > 10) cents += 200;
  return cents;
}

int total(const std::vector<Ride>& rides, int most) {
  int sum = 0;
  for (const Ride& ride : rides) {
    if (ride.minutes == 13) continue;  // nothing tests it
    sum += price(ride);
  }
  return std::min(sum, most);
}

}  // namespace fare
