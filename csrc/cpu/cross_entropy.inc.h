// Cross entropy, one instruction set. Rows are worked on in groups of as many as a vector has lanes. Short rows are
// turned, so that each lane holds a row; long rows are read one after the other, in blocks that stay in the first-level
// cache. What is done once per row (logarithm, losses, weights) is done on a group's lanes in either case.
#pragma once
#include "cpu/element.h"
#include "cpu/kernels.h"
#include "loreun/weighting.h"

namespace loreun {
namespace {

template <typename A>
constexpr A kInfinity = A(__builtin_inf());

// exp(x - from) of n <= lanes values, in double: log-weights far from zero lose digits otherwise.
template <typename A>
static inline void exp_shifted(const A* x, double from, int n, A* out) {
  constexpr int lanes = Lane<double>::count;
  double wide[Lane<A>::count + lanes] = {};
  for (int k = 0; k < n; k++) wide[k] = double(x[k]) - from;
  for (int k = 0; k < n; k += lanes) store(wide + k, exp_negative<double>(load(wide + k)));
  for (int k = 0; k < n; k++) out[k] = A(wide[k]);
}

template <typename T>
struct CrossEntropyRows {
  using A = Acc<T>;
  static constexpr int lanes = Lane<A>::count;
  using Group = A[lanes];
  const CrossEntropy& part;
  const Weighting& w;
  const bool smooth;

  explicit CrossEntropyRows(const CrossEntropy& p) : part(p), w(p.weighting), smooth(p.label_smoothing != 0) {}

  const T* row(int64_t i) const { return (const T*)part.logits + i * part.row_stride; }
  A* kept_row(int64_t i) const { return (A*)part.kept + i * part.classes; }
  T* grad_row(int64_t i) const { return (T*)part.grad + i * part.grad_row_stride; }
  A* column(int which) const { return (A*)part.table + which * part.rows; }
  A logit(int64_t i, int64_t label) const { return to_acc(row(i)[label * part.class_stride]); }
  int64_t target(int64_t i) const { return part.target[i * part.target_stride]; }
  bool ignored(int64_t i) const { return target(i) == part.ignore_index; }
  bool is_class(int64_t label) const { return label >= 0 && label < part.classes; }
  int64_t score_target(int64_t i) const {
    return part.score_target ? part.score_target[i * part.score_stride] : target(i);
  }

  // turned[c * lanes + k] is class c of row first + k. Lanes past the last row repeat it.
  void turn(int64_t first, int n, A* turned) const {
    const T* x[lanes];
    for (int k = 0; k < lanes; k++) x[k] = row(first + (k < n ? k : n - 1));
    if (part.class_stride != 1)
      for (int64_t c = 0; c < part.classes; c++)
        for (int k = 0; k < lanes; k++) turned[c * lanes + k] = to_acc(x[k][c * part.class_stride]);
    else
      for (int64_t at = 0; at < part.classes; at += lanes) {
        Vec<A> rows[lanes];
        for (int k = 0; k < lanes; k++) rows[k] = load_as(x[k] + at, part.classes - at, A(0));
        transpose<A>(rows, std::make_integer_sequence<int, lanes>());
        for (int c = 0; c < lanes; c++) store(turned + (at + c) * lanes, rows[c]);
      }
  }

  // ---- forward

  // What a pass over the logits found of a group's rows; shifted is the sum of x - max.
  struct Found {
    alignas(kBytes) Group max, sum, shifted;
  };

  void short_rows(int64_t first, int n, Found& found) const {
    alignas(kBytes) A turned[kShort * lanes];
    turn(first, n, turned);
    Vec<A> max = load(turned), sum{}, shifted{};
    for (int64_t c = 1; c < part.classes; c++) max = larger(load(turned + c * lanes), max);
    for (int64_t c = 0; c < part.classes; c++) sum += exp_negative<A>(load(turned + c * lanes) - max);
    if (smooth)
      for (int64_t c = 0; c < part.classes; c++) shifted += load(turned + c * lanes) - max;
    store(found.max, max), store(found.sum, sum), store(found.shifted, shifted);
  }

  struct Running {
    A max = -kInfinity<A>;
    double sum = 0, shifted = 0;
  };

  // The largest of n values, NaN left out.
  static A largest(const T* x, int64_t n) {
    Vec<A> top[4];
    for (int k = 0; k < 4; k++) top[k] = splat(-kInfinity<A>);
    each_vector(x, n, -kInfinity<A>, [&](int64_t, Vec<A> v, int, int k) { top[k] = larger(v, top[k]); });
    return max_lane(larger(larger(top[0], top[1]), larger(top[2], top[3])));
  }

  // From now on everything is relative to max, after `before` elements.
  void move_reference(Running& run, A max, int64_t before) const {
    run.sum *= __builtin_exp(double(run.max) - double(max));
    if (before) run.shifted -= double(before) * (double(max) - double(run.max));
    run.max = max;
  }

  // Takes n further elements in; their exponentials go to `kept`, if there is such a place. A row's first block is read
  // twice; those after it, which may hold a larger element, are taken relative to the largest so far, as a larger one does
  // no harm below overflow, so that memory is read without a pause.
  template <bool may_be_larger>
  void add_block(const T* x, int64_t n, int64_t before, Running& run, A* kept) const {
    constexpr A kHarmless = 40;
    constexpr int64_t kApart = 512;  // a sum's rounding errors grow with its terms, where all are of one sign
    const A from = run.max == -kInfinity<A> ? A(0) : run.max;  // a block of masked classes adds nothing, a NaN in it does
    Vec<A> top[4], sums[4] = {};
    for (int k = 0; k < 4; k++) top[k] = splat(from);
    each_vector(x, n, -kInfinity<A>, [&](int64_t i, Vec<A> v, int count, int k) {
      if constexpr (!may_be_larger) __builtin_prefetch(x + i + 2 * n);  // the row after the next
      const Vec<A> e = exp_negative<A>(v - from);
      sums[k] += e;
      if constexpr (may_be_larger) top[k] = larger(v, top[k]);
      if (kept) store_as(kept + i, e, count);
    });
    const A max = may_be_larger ? max_lane(larger(larger(top[0], top[1]), larger(top[2], top[3]))) : from;
    if (max - from > kHarmless) {
      move_reference(run, max, before);
      return add_block<false>(x, n, before, run, kept);
    }
    run.sum += sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (int64_t at = 0; smooth && at < n; at += kApart) {
      Vec<A> shifted[4] = {};
      const int64_t some = n - at < kApart ? n - at : kApart;
      each_vector(x + at, some, from, [&](int64_t, Vec<A> v, int, int k) { shifted[k] += v - from; });
      run.shifted += sum_of((shifted[0] + shifted[1]) + (shifted[2] + shifted[3]));
    }
    if (max > from) move_reference(run, max, before + n);
  }

  void long_rows(int64_t first, int n, Found& found) const {
    T copies[2][kBlock];
    const int64_t stride = part.class_stride, size = part.classes < kBlock ? part.classes : kBlock;
    const T* next = read_block(row(first), size, stride, copies[0]);
    A next_max = largest(next, size);
    for (int k = 0; k < n; k++) {
      const T* x = next;
      Running run;
      run.max = next_max;
      if (k + 1 < n) {  // a row ahead: exponentials that wait for their maximum would wait alone
        next = read_block(row(first + k + 1), size, stride, copies[(k + 1) % 2]);
        next_max = largest(next, size);
      }
      add_block<false>(x, size, 0, run, part.kept ? kept_row(first + k) : nullptr);
      for (int64_t at = size; at < part.classes; at += kBlock) {
        const int64_t more = part.classes - at < kBlock ? part.classes - at : kBlock;
        x = read_block(row(first + k) + at * stride, more, stride, copies[k % 2]);
        if (run.max == -kInfinity<A>) {
          run.max = largest(x, more);
          add_block<false>(x, more, at, run, nullptr);
        } else {
          add_block<true>(x, more, at, run, nullptr);
        }
      }
      found.max[k] = run.max, found.sum[k] = A(run.sum), found.shifted[k] = A(run.shifted);
    }
    for (int k = n; k < lanes; k++) found.max[k] = found.sum[k] = 1, found.shifted[k] = 0;
  }

  // Losses and log-weights of the rows that were found, into the table.
  void finish(int64_t first, int n, const Found& found) const {
    alignas(kBytes) Group objective, score;
    const Vec<A> max = load(found.max), log = log_positive<A>(load(found.sum)), eta = splat(A(w.eta));
    const auto put = [&](int which, Vec<A> v) { store_as(column(which) + first, v, n); };
    bool usual = w.rule == Rule::exp && !w.ratio && !w.ref_loss && !w.score_loss && !part.class_weight;
    for (int k = 0; k < lanes; k++) {
      const int64_t i = first + (k < n ? k : n - 1);
      const bool out = ignored(i);
      objective[k] = out ? max[k] + log[k] : logit(i, target(i));
      score[k] = part.score_target && is_class(score_target(i)) ? logit(i, score_target(i)) : objective[k];
      usual &= !out;
    }
    Vec<A> loss = log - (load(objective) - max);
    const Vec<A> scores = log - (load(score) - max);
    if (smooth) {
      const Vec<A> to_all = log - load(found.shifted) * A(1.0 / double(part.classes));
      loss = loss * A(1 - part.label_smoothing) + to_all * A(part.label_smoothing);
    }
    put(kMax, max), put(kLogSum, log);
    if (usual) {
      put(kObjective, loss), put(kScore, scores), put(kLogWeight, Vec<A>(eta * (scores - A(w.ref))));
      return put(kSlope, w.detach ? Vec<A>{} : eta);
    }
    store(objective, loss), store(score, scores);
    for (int k = 0; k < n; k++) {
      const int64_t i = first + k;
      const bool out = ignored(i);
      if (w.score_loss) score[k] = ((const A*)w.score_loss)[i];
      else if (out && (!part.score_target || !is_class(score_target(i)))) score[k] = 0;
      column(kObjective)[i] = out ? A(0) : objective[k];
      column(kScore)[i] = score[k];
      auto weight = log_weight(w, A(w.eta), score[k], reference_loss<A>(w, i));
      if (part.class_weight && !out) weight.value += log_by(((const A*)part.class_weight)[target(i)]);
      column(kLogWeight)[i] = out ? -kInfinity<A> : weight.value;
      column(kSlope)[i] = w.detach || w.score_loss || out ? A(0) : weight.slope;
    }
  }

  void forward(int64_t begin, int64_t end) const {
    Found found;
    for (int64_t first = begin; first < end; first += lanes) {
      const int n = int(end - first < lanes ? end - first : lanes);
      part.classes <= kShort ? short_rows(first, n, found) : long_rows(first, n, found);
      finish(first, n, found);
    }
  }

  // ---- backward

  // The gradient of a group's rows: dx = both * p - objective * onehot(target) - score * onehot(score target)
  // - everywhere.
  struct Slopes {
    alignas(kBytes) Group both, everywhere, max, log_sum, objective, score;
    bool flows;  // a gradient through a weight of the group
  };

  void slopes(int64_t first, int n, A upstream, Slopes& s) const {
    const auto at = [&](const void* rows) { return load_as((const A*)rows + first, n, A(0)); };
    Vec<A> a, score{};
    if (part.given.objective) {
      a = at(part.given.objective) * upstream;
      if (part.given.score) score = at(part.given.score) * upstream;
    } else {
      alignas(kBytes) Group weight = {};
      exp_shifted(column(kLogWeight) + first, part.batch[kLogNormaliser], n, weight);
      const Vec<A> slope = at(column(kSlope));
      a = load(weight) * upstream;
      score = slope == Vec<A>{} ? Vec<A>{} : a * slope * (at(column(kObjective)) - A(part.batch[kBaseline]));
    }
    store(s.both, Vec<A>(a + score)), store(s.score, score);
    store(s.objective, Vec<A>(a * A(1 - part.label_smoothing)));
    store(s.everywhere, Vec<A>(a * A(part.label_smoothing / double(part.classes))));
    store(s.max, at(column(kMax))), store(s.log_sum, at(column(kLogSum)));
    s.flows = false;
    for (int k = 0; k < n; k++) s.flows |= s.score[k] != 0;
  }

  // The gradient of an ignored row.
  void clear(int64_t i) const {
    for (int64_t c = 0; c < part.classes; c++) from_acc(A(0), grad_row(i) + c * part.grad_class_stride);
  }

  // What exp(x - max) is multiplied by: both times the probability of the largest class.
  static Vec<A> factor(const Slopes& s) { return load(s.both) * exp_negative<A>(-load(s.log_sum)); }

  void short_grad(int64_t first, int n, const Slopes& s) const {
    alignas(kBytes) A turned[kShort * lanes];
    alignas(kBytes) Group labels, score_labels;
    turn(first, n, turned);
    for (int k = 0; k < lanes; k++) {
      const int64_t i = first + (k < n ? k : n - 1);
      labels[k] = A(target(i)), score_labels[k] = A(score_target(i));
    }
    const Vec<A> both = factor(s), everywhere = load(s.everywhere), max = load(s.max);
    const Vec<A> objective = load(s.objective), score = load(s.score), label = load(labels), other = load(score_labels);
    for (int64_t c = 0; c < part.classes; c++) {
      Vec<A> g = both * exp_negative<A>(load(turned + c * lanes) - max) - everywhere;
      g -= label == splat(A(c)) ? objective : Vec<A>{};
      if (s.flows) g -= other == splat(A(c)) ? score : Vec<A>{};
      store(turned + c * lanes, g);
    }
    if (part.grad_class_stride != 1)
      for (int64_t c = 0; c < part.classes; c++)
        for (int k = 0; k < n; k++) from_acc(turned[c * lanes + k], grad_row(first + k) + c * part.grad_class_stride);
    else
      for (int64_t at = 0; at < part.classes; at += lanes) {
        Vec<A> rows[lanes];
        for (int c = 0; c < lanes; c++) rows[c] = load(turned + (at + c) * lanes);
        transpose<A>(rows, std::make_integer_sequence<int, lanes>());
        for (int k = 0; k < n; k++) store_as(grad_row(first + k) + at, rows[k], part.classes - at);
      }
    for (int k = 0; k < n; k++)
      if (ignored(first + k)) clear(first + k);
  }

  // kept: the forward pass left exp(x - max), in the gradient's own place perhaps.
  template <bool kept>
  void long_grad(int64_t i, int k, A both, const Slopes& s) const {
    if (ignored(i)) return clear(i);
    const A everywhere = s.everywhere[k], max = s.max[k];
    const auto value = [&](int64_t label) { return kept ? kept_row(i)[label] : logit(i, label); };
    const auto slope = [&](Vec<A> v) { return Vec<A>(both * (kept ? v : exp_negative<A>(v - max)) - everywhere); };
    const int64_t label = target(i), score_label = score_target(i), stride = part.grad_class_stride;
    const bool here = is_class(label), score_here = s.score[k] != 0 && is_class(score_label);
    // Where the labels are, before the logits may be written over and anything is rounded.
    A at_label = 0, at_score = 0;
    if (here) at_label = slope(splat(value(label)))[0] - s.objective[k];
    if (score_here) {
      at_score = slope(splat(value(score_label)))[0] - s.score[k];
      if (label == score_label) at_label -= s.score[k];
    }
    T copy[kBlock], made[kBlock];
    T* g = grad_row(i);
    for (int64_t at = 0; at < part.classes; at += kBlock) {
      const int64_t n = part.classes - at < kBlock ? part.classes - at : kBlock;
      T* out = stride == 1 ? g + at : made;
      const auto put = [&](int64_t j, Vec<A> v, int count, int) { store_as(out + j, slope(v), count); };
      if constexpr (kept) each_vector(kept_row(i) + at, n, A(0), put);
      else each_vector(read_block(row(i) + at * part.class_stride, n, part.class_stride, copy), n, A(0), put);
      if (stride != 1) write_block(made, n, g + at * stride, stride);
    }
    if (score_here) from_acc(at_score, g + score_label * stride);
    if (here) from_acc(at_label, g + label * stride);
  }

  // From the last group of rows to the first, as what the forward pass saw last is still in cache; within a group from the
  // first row, as the processor fetches ahead that way.
  template <bool kept>
  void backward(int64_t begin, int64_t end, A upstream) const {
    Slopes s;
    alignas(kBytes) Group both;
    for (int64_t first = begin + (end - begin - 1) / lanes * lanes; first >= begin && begin < end; first -= lanes) {
      const int n = int(end - first < lanes ? end - first : lanes);
      slopes(first, n, upstream, s);
      if (!kept && part.classes <= kShort) {
        short_grad(first, n, s);
        continue;
      }
      store(both, Vec<A>(factor(s) + (load(s.max) - load(s.max))));  // NaN where no class is the largest
      for (int k = 0; k < n; k++) long_grad<kept>(first + k, k, both[k], s);
    }
  }
};

template <typename T>
static void ce_rows(const CrossEntropy& part, int64_t begin, int64_t end) {
  CrossEntropyRows<T>(part).forward(begin, end);
}

template <typename T, bool kept>
static void ce_grad(const CrossEntropy& part, double grad_out, int64_t begin, int64_t end) {
  CrossEntropyRows<T>(part).template backward<kept>(begin, end, Acc<T>(part.scale * grad_out));
}

}  // namespace
}  // namespace loreun
