#include <stdexcept>
#include <vector>

class Matrix {
public:
    double at(int row, int column) const;
    void load(const double *values, int count);

private:
    int width = 0;
    std::vector<double> cells;
};

double Matrix::at(int row, int column) const
{
    if (row < 0 || column >= width) {
        throw std::out_of_range("no such cell in the matrix");
    }
    return cells[row * width + column];
}

void Matrix::load(const double *values, int count)
{
    if (count > 65536 && width > 0) {
        throw std::length_error("too many values for one matrix");
    }
    cells.assign(values, values + count);
}
