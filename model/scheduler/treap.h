// Ordered trees kept inside arrays of State: references are index + 1, zero is none.
//
// A treap whose priority is a fixed mix of the reference: its shape depends on the set of keys
// alone, not on the order in which they came, and copying the arrays copies the tree.
//
// `Tree` offers left(i), right(i) (references to links), less(a, b) and pull(i), which recomputes
// what i knows about its subtree from itself and its two children.
#pragma once
#include <cstdint>

namespace chalk::scheduler::treap {

// A bijection of 32 bits (the finaliser of MurmurHash3), so priorities never tie.
constexpr std::uint32_t priority(std::uint32_t i) {
  i = (i ^ i >> 16) * 0x85EBCA6Bu;
  i = (i ^ i >> 13) * 0xC2B2AE35u;
  return i ^ i >> 16;
}

// Parts the tree at `at` into those before `pivot` and those after it.
template <class Tree>
void split(Tree& tree, std::uint32_t at, std::uint32_t pivot, std::uint32_t& low,
           std::uint32_t& high) {
  if (at == 0) {
    low = high = 0;
    return;
  }
  std::uint32_t inner = 0;
  if (tree.less(at, pivot)) {
    split(tree, tree.right(at), pivot, inner, high);
    tree.right(at) = inner;
    low = at;
  } else {
    split(tree, tree.left(at), pivot, low, inner);
    tree.left(at) = inner;
    high = at;
  }
  tree.pull(at);
}

// Joins two trees of which all of `low` come before all of `high`.
template <class Tree>
std::uint32_t merge(Tree& tree, std::uint32_t low, std::uint32_t high) {
  if (low == 0) return high;
  if (high == 0) return low;
  if (priority(low) > priority(high)) {
    tree.right(low) = merge(tree, tree.right(low), high);
    tree.pull(low);
    return low;
  }
  tree.left(high) = merge(tree, low, tree.left(high));
  tree.pull(high);
  return high;
}

template <class Tree>
void insert(Tree& tree, std::uint32_t& root, std::uint32_t added) {
  if (root == 0 || priority(added) > priority(root)) {
    std::uint32_t low = 0, high = 0;
    split(tree, root, added, low, high);
    tree.left(added) = low;
    tree.right(added) = high;
    root = added;
  } else {
    insert(tree, tree.less(added, root) ? tree.left(root) : tree.right(root), added);
  }
  tree.pull(root);
}

template <class Tree>
void erase(Tree& tree, std::uint32_t& root, std::uint32_t gone) {
  if (root == gone) {
    root = merge(tree, tree.left(gone), tree.right(gone));
    return;
  }
  erase(tree, tree.less(gone, root) ? tree.left(root) : tree.right(root), gone);
  tree.pull(root);
}

}  // namespace chalk::scheduler::treap
