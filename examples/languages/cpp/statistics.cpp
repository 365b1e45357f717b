// Statistics of the numeric columns of a CSV file on standard input: count, least, mean, greatest and standard deviation,
// in one pass (Welford), so that the file may be larger than the memory. Fields may be quoted as RFC 4180 has it.
//
// Exit code: 0, or 2 when the input is no CSV or has no numeric column.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

namespace {

struct Column {
    std::string name;
    std::size_t count = 0;
    double mean = 0, squares = 0, least = INFINITY, greatest = -INFINITY;
    bool numeric = true;

    void add(const std::string& text) {
        if (text.empty() || !numeric) return;
        double value = 0;
        const char* last = text.data() + text.size();
        char* end = nullptr;
        value = std::strtod(text.c_str(), &end);
        if (end != last || !std::isfinite(value)) {
            numeric = false;
            return;
        }
        ++count;
        double delta = value - mean;
        mean += delta / static_cast<double>(count);
        squares += delta * (value - mean);
        least = std::min(least, value);
        greatest = std::max(greatest, value);
    }

    double deviation() const { return count < 2 ? 0 : std::sqrt(squares / static_cast<double>(count - 1)); }
};

// The next record, nothing at the end. A quote that is never closed is an error.
std::optional<std::vector<std::string>> record(std::istream& in, bool& malformed) {
    std::vector<std::string> fields(1);
    bool quoted = false, any = false;
    for (int c; (c = in.get()) != EOF;) {
        any = true;
        if (quoted) {
            if (c != '"') fields.back().push_back(static_cast<char>(c));
            else if (in.peek() == '"') fields.back().push_back(static_cast<char>(in.get()));
            else quoted = false;
        } else if (c == '"' && fields.back().empty()) {
            quoted = true;
        } else if (c == ',') {
            fields.emplace_back();
        } else if (c == '\n') {
            return fields;
        } else if (c != '\r') {
            fields.back().push_back(static_cast<char>(c));
        }
    }
    malformed = quoted;
    if (!any) return std::nullopt;
    return fields;
}

int refuse(const std::string& why) {
    std::cerr << "statistics: " << why << "\n";
    return 2;
}

}  // namespace

int main() {
    std::ios::sync_with_stdio(false);
    bool malformed = false;
    auto head = record(std::cin, malformed);
    if (!head || malformed) return refuse("there is no line of names");
    std::vector<Column> columns;
    for (auto& name : *head) columns.push_back({.name = name});
    std::size_t line = 1;
    while (auto fields = record(std::cin, malformed)) {
        ++line;
        if (malformed) return refuse("a quote is never closed");
        if (fields->size() == 1 && fields->front().empty()) continue;
        if (fields->size() != columns.size()) {
            return refuse("record " + std::to_string(line) + " has " + std::to_string(fields->size()) +
                          " fields, not " + std::to_string(columns.size()));
        }
        for (std::size_t i = 0; i < columns.size(); ++i) columns[i].add((*fields)[i]);
    }
    bool any = false;
    for (const auto& column : columns) {
        if (!column.numeric || column.count == 0) continue;
        any = true;
        std::printf("%s: count %zu, least %g, mean %g, greatest %g, deviation %.4f\n", column.name.c_str(),
                    column.count, column.least, column.mean, column.greatest, column.deviation());
    }
    return any ? 0 : refuse("no column is numeric");
}
